// Checks that the arguments of an op fit together. What fails here is a bug in the caller, so these
// are CHECKs. Every backend runs them first.
#ifndef MOELIGHT_ENGINE_BACKEND_OP_CHECKS_H_
#define MOELIGHT_ENGINE_BACKEND_OP_CHECKS_H_

#include "engine/backend/backend.h"

namespace moelight {

void CheckEmbed(const EmbedArgs& args, const Backend& backend);
void CheckRmsNorm(const RmsNormArgs& args, const Backend& backend);
void CheckMatMul(const MatMulArgs& args, const Backend& backend);
void CheckQkNormRope(const QkNormRopeArgs& args, const Backend& backend);
void CheckAttention(const AttentionArgs& args, const Backend& backend);
void CheckRouter(const RouterArgs& args, const Backend& backend);
void CheckMoeFfn(const MoeFfnArgs& args, const Backend& backend);
void CheckDenseFfn(const DenseFfnArgs& args, const Backend& backend);
void CheckGatherRows(const GatherRowsArgs& args, const Backend& backend);
void CheckCopy(const TensorView& src, const TensorView& dst);
void CheckCopyPages(const CopyPagesArgs& args);

}  // namespace moelight

#endif  // MOELIGHT_ENGINE_BACKEND_OP_CHECKS_H_
