// Speculative generation. An Engine decodes any number of requests together, one round at a time:
// the drafter proposes, the verifier evaluates all proposals in one pass, the longest correct
// prefix is committed. Requests join and leave between rounds.
//
//   auto engine = Engine::Create({.model = verifier, .drafter = DrafterOptions::FromModel(draft)});
//   auto result = (*engine)->Generate({.prompt = tokenizer->Encode("Once upon a time")});
//
// Greedy output is identical, to the bit, with any drafter, any number of draft tokens, any batch
// and any checkpoint policy. Sampled output follows the verifier's distribution exactly.
#ifndef SIDEWINDER_ENGINE_H_
#define SIDEWINDER_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "sidewinder/model.h"

namespace sidewinder {

inline constexpr int kMaxDraftTokens{15};   // proposals per round; K + 1 rows are verified at once
inline constexpr int kAutoDraftTokens{-1};  // choose K per request from its acceptance so far
inline constexpr int kMaxStopTokens{16};    // distinct stop tokens of a request, eos included
inline constexpr int kMaxNewTokens{1 << 24};  // of one request

class Drafter;
struct RoundCostModel;

// Names and meanings as in Hugging Face and vLLM. The filters apply in the order temperature,
// top_k, top_p, min_p, each to what the one before left.
struct SamplingParams {
  float temperature = 0.0f;  // 0: greedy; else 1e-4..1e4
  int32_t top_k = 0;         // keep the k most likely tokens; 0: all
  float top_p = 1.0f;        // in (0, 1]: keep the smallest set with at least this probability
  float min_p = 0.0f;        // in [0, 1): drop tokens below min_p times the most likely one
  uint64_t seed = 0;         // with the request's `sequence`, keys the random numbers
};

struct Request {
  std::vector<int32_t> prompt;   // at least one token, each in [0, vocab_size)
  int32_t max_new_tokens = 128;  // 1..kMaxNewTokens
  SamplingParams sampling;
  bool ignore_eos = false;           // do not stop at the model's eos tokens
  std::vector<int32_t> stop_tokens;  // further ids that end the text
  std::vector<std::string> stop;     // texts that end it; not part of the output. Needs a tokenizer
  uint32_t sequence = 0;             // distinguishes several samples of one seed; random numbers
                                     // depend on (seed, sequence, position) and nothing else
  bool keep_state = false;           // hold the slot after the end, for SaveState and Fork, until
                                     // Release
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled };
const char* Name(FinishReason reason);  // "none", "stop", "length", "cancelled"

// Figures of one request, or of many added up. Rates are 0 where nothing was counted.
struct DecodeStats {
  int64_t rounds = 0;
  int64_t drafted = 0;                                // proposals that were verified
  int64_t accepted = 0;                               // of them, those that became part of the text
  std::array<int64_t, kMaxDraftTokens> drafted_at{};  // by position in the draft
  std::array<int64_t, kMaxDraftTokens> accepted_at{};
  int64_t prompt_tokens = 0;
  int64_t new_tokens = 0;
  double ttft_ms = 0;    // from Submit to the first new token
  double decode_ms = 0;  // from the first new token to the last

  double AcceptanceRate() const;        // accepted / drafted
  double MeanAcceptanceLength() const;  // 1 + accepted / rounds, the bonus token included
  double TokensPerSecond() const;       // new tokens after the first round over decode_ms
  std::vector<double> AcceptanceByPosition() const;  // accepted_at / drafted_at, while drafted
  void Add(const DecodeStats& other);                // sums every count and time

  int64_t first_round_tokens = 0;  // new tokens of the round that produced the first one

  // Proposals at a position whose predecessors of the round were all accepted: accepted_at over
  // this is the acceptance of a position given that it was reached.
  std::array<int64_t, kMaxDraftTokens> reached_at{};
  std::vector<double> ConditionalAcceptanceByPosition() const;  // accepted_at / reached_at
};

using RequestId = int64_t;

struct NewToken {
  int32_t id;
  bool drafted;  // proposed by the drafter and accepted; else the verifier's own
};

// What one Step() did for one request.
struct RequestUpdate {
  RequestId id = 0;
  std::vector<NewToken> tokens;  // committed now
  std::string text;              // decoded text that became certain; empty without a tokenizer
  FinishReason finish = FinishReason::kNone;
};

struct GenerateResult {
  std::vector<int32_t> tokens;  // new tokens, the stop token or those of the stop text included
  std::string text;             // their text, without special tokens and without the stop text
  FinishReason finish = FinishReason::kNone;
  DecodeStats stats;
};

// Where proposals come from.
struct DrafterOptions {
  enum class Kind : uint8_t { kNone, kModel, kNgram, kCustom };
  Kind kind = Kind::kNone;
  std::shared_ptr<const Model> model;                 // kModel
  int32_t ngram_max = 4;                              // kNgram: longest suffix looked up
  int32_t ngram_min = 1;                              // kNgram: shortest
  std::function<std::unique_ptr<Drafter>()> factory;  // kCustom: code that is built inside the
                                                      // source tree, see speculative/drafter.h

  // Proposes nothing: plain decoding.
  static DrafterOptions None() { return {}; }
  // A draft model of any family. If it does not share the verifier's vocabulary, its text is
  // tokenised again for the verifier; both need a tokenizer then. Not null.
  static DrafterOptions FromModel(std::shared_ptr<const Model> draft);
  // Prompt lookup: proposes what followed the latest earlier occurrence of the last tokens, the
  // longest of `max` down to `min` that occurs; 1 <= min <= max <= 64.
  static DrafterOptions Ngram(int32_t min = 1, int32_t max = 4);
};

// Whether tokens of `draft` are tokens of `verifier`, as far as their tokenizers tell.
bool SharesVocabulary(const Model& verifier, const Model& draft);

// When recurrent states are written. All give the same output.
enum class CheckpointPolicy : uint8_t {
  kEveryRound,        // least compute
  kWhenLogFull,       // least traffic: at positions that are a multiple of checkpoint_stride
  kSnapshotPerToken,  // a state per row, what most engines do: a baseline for benchmarks
};

// How sampled proposals are judged. Both leave the verifier's distribution untouched.
enum class AcceptanceMethod : uint8_t {
  kRejection,  // rejection sampling: accepts most; the text of a seed depends on the drafter
  kCoupled,  // verifier and drafter draw with shared noise: accepts a little less, and the text of
             // a seed is the same for every drafter and number of draft tokens
};

struct EngineOptions {
  std::shared_ptr<const Model> model;  // the verifier
  DrafterOptions drafter;
  int32_t draft_tokens = 4;   // 0..kMaxDraftTokens, or kAutoDraftTokens
  int32_t max_sequences = 1;  // slots: requests that decode together, 1..1024
  CheckpointPolicy checkpoint_policy = CheckpointPolicy::kEveryRound;
  int32_t checkpoint_stride = 16;  // kWhenLogFull, 1..4096
  AcceptanceMethod acceptance = AcceptanceMethod::kRejection;
  // Prompt tokens evaluated at once, 1..4096, for models with Mamba-2 rounded up to a multiple of
  // 64; 0: what suits the device.
  int32_t prefill_chunk = 0;
  int32_t num_threads = 0;  // 0: one per core
  // A tuning profile (sidewinder/tuning.h), for kAutoDraftTokens and what is left to be chosen by
  // the device. Empty: the one that `sidewinder tune` wrote for these models on this device if
  // there is one, else built-in figures; "builtin": those.
  std::string tuning_profile;
  // Forces proposals to be accepted with these probabilities, each 0..1, whatever the verifier
  // says: the i-th is that of position i given that those ahead were accepted, the last one also
  // applies to all behind. For benchmarks of speed with random weights; empty: off. The text is
  // then meaningless.
  std::vector<double> synthetic_acceptance;
  // Measures where the time of rounds goes, see RoundProfile. Each phase is waited for, so
  // generation is slower, on a GPU much. The output is the same.
  bool profile_rounds = false;
};

// Bytes an engine holds per sequence, verifier and drafter together.
struct EngineMemory {
  int64_t state_bytes = 0;   // checkpoints, conv windows and snapshots
  int64_t replay_bytes = 0;  // replay logs
};

// Rounds of an engine since it was created or the profile was reset, added up. Times include
// waiting for the device after each phase.
struct RoundProfile {
  int64_t rounds = 0;   // of a whole batch
  double draft_ms = 0;  // choosing K and proposing
  double verify_ms = 0;
  double judge_ms = 0;      // finding the first conflict, sampling
  double roll_back_ms = 0;  // forgetting what was rejected
  double publish_ms = 0;    // telling the host

  // What the verifier's passes did with the recurrent states of their sequences.
  int64_t sequences = 0;       // passes times sequences in each
  int64_t rows = 0;            // rows evaluated
  int64_t logged_rows = 0;     // of them, rows appended to a replay log
  int64_t replayed_rows = 0;   // rows of a log evaluated again on top of its checkpoint
  int64_t states_written = 0;  // checkpoints, or snapshots

  double commit_ms() const { return judge_ms + roll_back_ms + publish_ms; }
  double total_ms() const { return draft_ms + verify_ms + commit_ms(); }
};

// Not thread-safe: one caller at a time. Several engines may run at once and share models.
class Engine {
 public:
  // InvalidArgument names the option, its value and the legal ones. A draft model with another
  // vocabulary than the verifier's is an InvalidArgument if one of the two has no tokenizer.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(EngineOptions options);
  ~Engine();

  // As given to Create.
  const EngineOptions& options() const;
  // What the engine allocated for each of its slots; fixed from Create on.
  EngineMemory memory() const;
  // What the automatic draft length decides by, and where it comes from.
  const RoundCostModel& cost_model() const;

  // Zeros unless EngineOptions::profile_rounds was given.
  const RoundProfile& profile() const;
  void ResetProfile();

  // Queues a request. It joins as soon as a slot is free. InvalidArgument if it is malformed.
  absl::StatusOr<RequestId> Submit(Request request);

  // Lets waiting requests join (their prompts are prefilled), then decodes one round for all
  // running requests. Returns the updates of the requests that progressed: one each, more if
  // Generate left rounds that nobody has seen. Empty when idle.
  absl::StatusOr<std::vector<RequestUpdate>> Step();

  // No request is waiting or running.
  bool idle() const;

  // Ends a request between rounds: its result is what it has so far. NotFound: no such request.
  absl::Status Cancel(RequestId id);

  // Result of a finished request; forgets the request unless it keeps its state. NotFound: no such
  // request; FailedPrecondition: it is not finished.
  absl::StatusOr<GenerateResult> TakeResult(RequestId id);

  // Figures of a request so far.
  absl::StatusOr<DecodeStats> Stats(RequestId id) const;

  // Submits a request and decodes until it is done; others progress too. On a GPU the rounds follow
  // one another without the host. `on_update` (may be null) sees the request's updates as they
  // happen and cancels it by returning false.
  absl::StatusOr<GenerateResult> Generate(
      Request request, const std::function<bool(const RequestUpdate&)>& on_update = nullptr);

  // Decodes until no request is waiting or running. On a GPU the rounds follow one another without
  // the host. `on_update` (may be null) sees updates as they happen and ends the run by returning
  // false; it still sees those of rounds that are done by then, and what is not finished can be
  // cancelled or decoded further.
  absl::Status Run(const std::function<bool(const RequestUpdate&)>& on_update = nullptr);

  // Writes tokens and recurrent state of a running or kept request: version, fingerprints of the
  // models and a checksum included. The file appears whole or not at all.
  absl::Status SaveState(RequestId id, const std::string& path) const;

  // Continues a saved text: `request.prompt` is appended to the saved tokens (it may be empty), the
  // rest of `request` applies to the continuation. The result is what decoding without interruption
  // gives, to the bit. InvalidArgument names the file and what is wrong with it: not a state file,
  // another version, another model, damaged.
  absl::StatusOr<RequestId> RestoreState(const std::string& path, Request request);

  // Continues a running or kept request in a second slot, as RestoreState does. ResourceExhausted
  // if no slot is free.
  absl::StatusOr<RequestId> Fork(RequestId id, Request request);

  // Frees the slot of a kept request.
  absl::Status Release(RequestId id);

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sidewinder

#endif  // SIDEWINDER_ENGINE_H_
