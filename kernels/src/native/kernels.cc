// The compute kernels, compiled once for every instruction set (see binding.gyp): all of them in anonymous namespaces, reached through one table.
#include "kernels.h"

#include "attention.h"
#include "elementwise.h"
#include "gumbel.h"
#include "linear.h"
#include "planes.h"
#include "quantize.h"
#include "sha256_lanes.h"
#include "softmax.h"

#if defined(SIGNPOST_VNNI)
#define TABLE kAvx512Vnni
#define TABLE_NAME "avx512-vnni"
#elif defined(SIGNPOST_AVX512)
#define TABLE kAvx512
#define TABLE_NAME "avx512"
#elif defined(SIGNPOST_AVX2)
#define TABLE kAvx2
#define TABLE_NAME "avx2"
#elif defined(SIGNPOST_NEON)
#define TABLE kNeon
#define TABLE_NAME "neon"
#else
#define TABLE kPortable
#define TABLE_NAME "portable"
#endif

namespace signpost {

extern const KernelTable TABLE;
const KernelTable TABLE = {
    TABLE_NAME, kLanes, kLeastLaneRows, linear, lane_signs, integers, sign_tables, sign_columns, attention, dot, scale_by, add, swiglu, rotate, widen, quantize, pack_groups, apply_term, difference,
    pack_row, subtract_plane, sum_squares, add_products, add_scaled, exponentials, gather_edge, gumbel_argmax, sum_words, sha256,
};

} // namespace signpost
