// A step's batch: every number the device will use as an index is checked here.
#include <string>

#include "arguments.h"
#include "device_wrap.h"

namespace signpost {

void read_batch(const Napi::CallbackInfo& info, Device& device) {
  const Napi::Env env = info.Env();
  const auto tokens = view<int32_t>(env, info[0], "tokens");
  const auto positions = view<int32_t>(env, info[1], "positions");
  const auto starts = view<int32_t>(env, info[2], "sequenceStart");
  const auto table = view<int32_t>(env, info[3], "blockTable");
  const int per_sequence = integer(env, info[4], 0, 1 << 28, "blocksPerSequence");
  const auto mixture_start = view<int32_t>(env, info[5], "mixtureStart");
  const auto mixture_slots = view<int32_t>(env, info[6], "mixtureSlots");
  const auto mixture_weights = view<float>(env, info[7], "mixtureWeights");
  const auto logit_rows = view<int32_t>(env, info[8], "logitRows");
  const int rows = static_cast<int>(tokens.length);
  const KvShape& kv = device.kv;
  require(env, positions.length == tokens.length, "positions and tokens differ in length");
  require(env, starts.length >= 1 && starts.data[0] == 0 && starts.data[starts.length - 1] == rows, "sequenceStart must go from 0 to the number of rows");
  const size_t sequences = starts.length - 1;
  require(env, table.length == sequences * per_sequence, "blockTable must be (sequences, blocksPerSequence)");
  require(env, mixture_start.length == tokens.length + 1 && mixture_start.data[0] == 0, "mixtureStart must have one entry more than rows and begin at 0");
  require(env, mixture_slots.length == mixture_weights.length && mixture_start.data[rows] == static_cast<int>(mixture_slots.length), "mixtureStart must end at the number of terms");
  Batch& batch = device.incoming;
  batch.sequence.resize(rows);
  for (size_t s = 0; s < sequences; s++) {
    require(env, starts.data[s] <= starts.data[s + 1] && starts.data[s + 1] <= rows, "sequenceStart must not fall");
    for (int r = starts.data[s]; r < starts.data[s + 1]; r++) {
      const int position = positions.data[r];
      const int64_t reach = static_cast<int64_t>(per_sequence) * kv.block_tokens;
      require(env, position >= 0 && position < reach, "row " + std::to_string(r) + ": position " + std::to_string(position) + " is beyond its sequence's blocks");
      require(env, r == starts.data[s] || position == positions.data[r - 1] + 1, "a sequence's rows must be consecutive positions");
      batch.sequence[r] = static_cast<int>(s);
    }
    if (starts.data[s] == starts.data[s + 1]) continue;
    const int last = positions.data[starts.data[s + 1] - 1] / kv.block_tokens;
    for (int b = 0; b <= last; b++) {
      const int block = table.data[s * per_sequence + b];
      require(env, block >= 0 && block < kv.blocks, "sequence " + std::to_string(s) + ": block " + std::to_string(block) + " does not exist");
    }
  }
  for (int r = 0; r < rows; r++) {
    require(env, mixture_start.data[r] <= mixture_start.data[r + 1], "mixtureStart must not fall");
    require(env, tokens.data[r] >= 0, "row " + std::to_string(r) + ": token " + std::to_string(tokens.data[r]) + " does not exist");
  }
  for (size_t t = 0; t < mixture_slots.length; t++) {
    const int slot = mixture_slots.data[t];
    require(env, slot >= 0 && slot < static_cast<int>(device.slots.size()), "slot " + std::to_string(slot) + " does not exist");
  }
  for (size_t i = 0; i < logit_rows.length; i++) {
    const int row = logit_rows.data[i];
    require(env, row >= 0 && row < rows && (i == 0 || row > logit_rows.data[i - 1]), "logitRows must be rows of the step, ascending");
  }
  batch.rows = rows;
  batch.tokens.assign(tokens.data, tokens.data + rows);
  batch.positions.assign(positions.data, positions.data + rows);
  batch.block_table.assign(table.data, table.data + table.length);
  batch.blocks_per_sequence = per_sequence;
  batch.mixture_start.assign(mixture_start.data, mixture_start.data + mixture_start.length);
  batch.mixture_slots.assign(mixture_slots.data, mixture_slots.data + mixture_slots.length);
  batch.mixture_weights.assign(mixture_weights.data, mixture_weights.data + mixture_weights.length);
  batch.logit_rows.assign(logit_rows.data, logit_rows.data + logit_rows.length);
}

} // namespace signpost
