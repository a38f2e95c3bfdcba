// NativeDevice and the batch it is given.
#pragma once
#include <napi.h>

#include "device.h"

namespace signpost {

Napi::Function define_device(Napi::Env env);

// Checks a step's batch against the device's sizes and fills `device.incoming`.
// tokens, positions, sequenceStart, blockTable, blocksPerSequence, mixtureStart, mixtureSlots, mixtureWeights, logitRows
void read_batch(const Napi::CallbackInfo& info, Device& device);

} // namespace signpost
