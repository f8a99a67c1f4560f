// The report as one JSON object.
#include <algorithm>

#include "apps/sidewinder/bench/report.h"
#include "apps/sidewinder/flags.h"
#include "apps/sidewinder/stats_json.h"

namespace sidewinder::cli {
namespace {

OrderedJson ModelJson(const ModelInfo& info) {
  return {{"path", info.path},     {"family", info.family}, {"parameters", info.num_parameters},
          {"device", info.device}, {"dtype", info.dtype},   {"weight_bytes", info.weight_bytes}};
}

OrderedJson IntervalJson(const std::optional<Interval>& interval) {
  if (!interval) return nullptr;
  return {interval->low, interval->high};
}

OrderedJson FloorBytesJson(const RoundBytes& bytes) {
  return {{"weights", bytes.weights},
          {"draft_weights", bytes.draft_weights},
          {"states", bytes.states},
          {"total", bytes.total()}};
}

OrderedJson MovedBytesJson(const MovedBytes& bytes) {
  return {{"weights", bytes.weights},           {"draft_weights", bytes.draft_weights},
          {"states_read", bytes.states_read},   {"states_written", bytes.states_written},
          {"log_read", bytes.log_read},         {"log_written", bytes.log_written},
          {"draft_states", bytes.draft_states}, {"total", bytes.total()}};
}

OrderedJson TimeSplitJson(const RoundProfile& profile) {
  const auto per_round = [&profile](double ms) {
    return Ratio(ms, static_cast<double>(profile.rounds));
  };
  return {{"rounds", profile.rounds},
          {"draft_ms", per_round(profile.draft_ms)},
          {"verify_ms", per_round(profile.verify_ms)},
          {"commit_ms", per_round(profile.commit_ms())},
          {"judge_ms", per_round(profile.judge_ms)},
          {"roll_back_ms", per_round(profile.roll_back_ms)},
          {"publish_ms", per_round(profile.publish_ms)}};
}

OrderedJson RollBackJson(const BenchReport& report, const Setting& setting,
                         const ConfigReport& config) {
  // Rejected tokens are forgotten by moving a cursor, whatever the policy; what snapshots cost is
  // that a state is written for every row.
  const bool snapshots = setting.checkpoint_policy == CheckpointPolicy::kSnapshotPerToken;
  const RoundProfile profile = config.profile.value_or(RoundProfile());
  const auto rounds = static_cast<double>(profile.rounds);
  OrderedJson json = {{"bytes_copied", 0}};
  json["ms_per_round"] =
      config.profile ? OrderedJson(Ratio(profile.roll_back_ms, rounds)) : OrderedJson(nullptr);
  json["snapshot_bytes_per_round"] =
      !snapshots       ? OrderedJson(0)
      : config.profile ? OrderedJson(Ratio(static_cast<double>(profile.states_written), rounds) *
                                     static_cast<double>(report.model.state_bytes))
                       : OrderedJson(nullptr);
  return json;
}

// What is measured in all and by category.
OrderedJson MeasurementJson(const Measurement& m) {
  return {
      {"tokens_per_second", m.TokensPerSecond()},
      {"acceptance_rate", m.stats.AcceptanceRate()},
      {"mean_acceptance_length", m.stats.MeanAcceptanceLength()},
      {"speedup", m.speedup},
      {"speedup_interval", IntervalJson(m.speedup_interval)},
      {"end_to_end_speedup", m.end_to_end_speedup},
      {"acceptance_by_position", m.stats.AcceptanceByPosition()},
      {"conditional_acceptance_by_position", m.stats.ConditionalAcceptanceByPosition()},
      {"tokens_per_round", m.TokensPerRound()},
      {"median_tokens_per_second", Median(m.tokens_per_second)},
      {"tokens_per_second_p10", Quantile(m.tokens_per_second, 0.1)},
      {"tokens_per_second_p90", Quantile(m.tokens_per_second, 0.9)},
      {"repeat_spread", m.repeat_spread},
      {"end_to_end_tokens_per_second", m.EndToEndTokensPerSecond()},
      {"ttft_mean_ms", Mean(m.ttft_ms)},
      {"ttft_median_ms", Median(m.ttft_ms)},
      {"ttft_p90_ms", Quantile(m.ttft_ms, 0.9)},
      {"time_per_output_token_mean_ms", Mean(m.ms_per_token)},
      {"time_per_output_token_median_ms", Median(m.ms_per_token)},
      {"ms_per_round", m.MsPerRound()},
      {"rounds", m.stats.rounds},
      {"drafted", m.stats.drafted},
      {"accepted", m.stats.accepted},
      {"new_tokens", m.stats.new_tokens},
      {"prompt_tokens", m.stats.prompt_tokens},
      {"requests", m.ttft_ms.size()},
      {"decode_ms", m.stats.decode_ms},
      {"ttft_ms", m.stats.ttft_ms},
      {"batch_rounds", m.rounds},
      {"sequences_per_round", m.RequestsPerRound()},
  };
}

OrderedJson ConfigJson(const BenchReport& report, const Setting& setting,
                       const ConfigReport& config) {
  OrderedJson json = {
      {"draft_tokens", DraftTokensJson(config.draft_tokens)},
      {"draft", config.is_plain() ? "none" : report.drafts[config.draft].name},
      {"batch", setting.batch},
      {"temperature", setting.temperature},
      {"context", setting.context},
      {"checkpoint_policy", Name(setting.checkpoint_policy)},
  };
  json.update(MeasurementJson(config.all));
  json["floor_tokens_per_second"] = config.floor_tokens_per_second;
  json["fraction_of_floor"] = config.FractionOfFloor();
  json["identical"] = config.identical ? OrderedJson(*config.identical) : OrderedJson(nullptr);
  json["floor_bytes_per_round"] = FloorBytesJson(config.floor_bytes);
  json["moved_bytes_per_round"] =
      config.moved ? MovedBytesJson(*config.moved) : OrderedJson(nullptr);
  json["time_split"] = config.profile ? TimeSplitJson(*config.profile) : OrderedJson(nullptr);
  json["state_bytes_per_request"] = config.memory.state_bytes;
  json["log_bytes_per_request"] = config.memory.replay_bytes;
  json["rollback"] = RollBackJson(report, setting, config);
  OrderedJson categories = OrderedJson::array();
  for (const auto& [category, measured] : config.by_category) {
    OrderedJson& entry = categories.emplace_back(OrderedJson{{"category", category}});
    entry.update(MeasurementJson(measured));
  }
  json["categories"] = std::move(categories);
  return json;
}

OrderedJson CostModelsJson(const BenchReport& report) {
  OrderedJson list = OrderedJson::array();
  for (const SettingReport& setting : report.settings) {
    for (size_t draft = 0; draft < report.drafts.size(); ++draft) {
      const auto model = CostModelOf(setting, static_cast<int32_t>(draft));
      if (!model) continue;
      const Setting& s = setting.setting;
      OrderedJson break_even = OrderedJson::object();
      for (const int32_t k : report.sweep.draft_tokens) {
        if (k == kAutoDraftTokens) continue;
        const std::optional<double> acceptance = model->BreakEven(k);
        break_even[std::to_string(k)] =
            acceptance ? OrderedJson(*acceptance) : OrderedJson(nullptr);
      }
      list.push_back({{"draft", report.drafts[draft].name},
                      {"batch", s.batch},
                      {"temperature", s.temperature},
                      {"context", s.context},
                      {"checkpoint_policy", Name(s.checkpoint_policy)},
                      {"plain_ms", model->plain_ms},
                      {"base_ms", model->base_ms},
                      {"proposal_ms", model->proposal_ms},
                      {"worst_error", model->worst_error},
                      {"break_even_acceptance", std::move(break_even)}});
    }
  }
  return list;
}

OrderedJson DraftsJson(const BenchReport& report) {
  OrderedJson list = OrderedJson::array();
  for (const DraftReport& draft : report.drafts) {
    list.push_back(draft.model ? ModelJson(*draft.model) : OrderedJson(draft.name));
  }
  if (list.empty()) return "none";
  return list.size() == 1 ? list.front() : list;
}

// The value of a setting, or the list of them.
template <class T, class Value>
OrderedJson Varied(const BenchReport& report, const Value& value) {
  std::vector<T> values;
  for (const Setting& setting : report.sweep.settings) {
    const T one = value(setting);
    if (std::find(values.begin(), values.end(), one) == values.end()) values.push_back(one);
  }
  return values.size() == 1 ? OrderedJson(values.front()) : OrderedJson(values);
}

}  // namespace

OrderedJson BenchJson(const BenchReport& report) {
  OrderedJson results = OrderedJson::array();
  for (const SettingReport& setting : report.settings) {
    for (const ConfigReport& config : setting.configs) {
      results.push_back(ConfigJson(report, setting.setting, config));
    }
  }
  return {
      {"results", std::move(results)},
      {"command", report.command},
      {"date", report.date},
      {"version", SIDEWINDER_VERSION},
      {"machine", report.model.device_description},
      {"threads", report.threads > 0 ? OrderedJson(report.threads) : OrderedJson(nullptr)},
      {"model", ModelJson(report.model)},
      {"draft", DraftsJson(report)},
      {"draft_is_retokenized",
       std::any_of(report.drafts.begin(), report.drafts.end(),
                   [](const DraftReport& draft) { return draft.is_retokenized; })},
      {"prompts", report.settings.front().num_prompts},
      {"requests", report.settings.front().num_requests},
      {"prompts_from", report.prompts_name},
      {"chat_template", report.chat_template},
      {"max_new_tokens", report.max_new_tokens},
      {"repeat", report.repeat},
      {"temperature", Varied<float>(report, [](const Setting& s) { return s.temperature; })},
      {"seed", report.sampling.seed},
      {"read_bytes_per_second", report.read_bandwidth},
      {"pair_read_bytes_per_second",
       report.drafts.empty() ? report.read_bandwidth : report.drafts.front().pair_bandwidth},
      {"floor_tokens_per_second", PlainFloor(report, report.settings.front().setting)},
      {"batch", Varied<int32_t>(report, [](const Setting& s) { return s.batch; })},
      {"context", Varied<int32_t>(report, [](const Setting& s) { return s.context; })},
      {"checkpoint_policy",
       Varied<std::string>(
           report, [](const Setting& s) { return std::string(Name(s.checkpoint_policy)); })},
      {"synthetic_acceptance", report.synthetic.ToJson()},
      {"interrupted", report.interrupted},
      {"identical", report.difference.empty()},
      {"cost_models", CostModelsJson(report)},
  };
}

}  // namespace sidewinder::cli
