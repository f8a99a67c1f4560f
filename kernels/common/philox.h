// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011). A number is a pure function of what it is for, so a text
// does not depend on batch, thread or device.
#ifndef SIDEWINDER_KERNELS_COMMON_PHILOX_H_
#define SIDEWINDER_KERNELS_COMMON_PHILOX_H_

#include <cstdint>

#include "kernels/common/host_device.h"

namespace sidewinder {

// What a random number decides. Streams of different purposes are independent.
enum class RandomPurpose : uint32_t {
  kSample,     // the verifier draws a token
  kAccept,     // a proposal is judged
  kDraft,      // the drafter draws a token
  kGumbel,     // shared noise of coupled sampling
  kSynthetic,  // a proposal is accepted by lot
};

struct PhiloxCounter {
  uint32_t words[4];
};
struct PhiloxKey {
  uint32_t words[2];
};

SW_HOST_DEVICE inline PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const uint32_t* c = counter.words;
    const uint64_t product0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * c[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ c[1] ^ key.words[0],
                static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ c[3] ^ key.words[1],
                static_cast<uint32_t>(product0)}};
    key = {{key.words[0] + 0x9E3779B9u, key.words[1] + 0xBB67AE85u}};
  }
  return counter;
}

// Uniform in (0, 1), never 0 or 1: 24 bits, centred in their cells, exact in float32.
SW_HOST_DEVICE inline float ToUniform(uint32_t bits) {
  return (static_cast<float>(bits >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

// The four words behind numbers 4 * block .. 4 * block + 3 of RandomUniform.
SW_HOST_DEVICE inline PhiloxCounter RandomWords(uint64_t seed, uint32_t sequence, uint32_t position,
                                                RandomPurpose purpose, uint32_t block) {
  return Philox4x32({{position, block, sequence, static_cast<uint32_t>(purpose)}},
                    {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}});
}

// The number for one purpose at one position of one sequence; `index` numbers further draws there
// (a vocabulary entry, for Gumbel noise).
SW_HOST_DEVICE inline float RandomUniform(uint64_t seed, uint32_t sequence, uint32_t position,
                                          RandomPurpose purpose, uint32_t index = 0) {
  const PhiloxCounter random = RandomWords(seed, sequence, position, purpose, index / 4);
  return ToUniform(random.words[index % 4]);
}

}  // namespace sidewinder

#endif  // SIDEWINDER_KERNELS_COMMON_PHILOX_H_
