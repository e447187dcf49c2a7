import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan

/// The largest or smallest elements along an axis: few of many by one scan that keeps them, others by a radix sort of integer keys.
struct TopKTemplate: KernelTemplate {
  let name = "top_k"
  let takesEpilogue = false

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard let op = node.op as? TopK else { return "it is no top_k" }
    let type = graph.tensorType(node.inputs[0])
    if key(type.dtype, largest: op.largest) == nil { return "elements of \(type.dtype) have no keys" }
    let count = type.shape[op.axis]
    if count.range.upper > Int(UInt32.max) { return "the axis is too long" }
    // What is too large is reported by the operation itself.
    if op.k.range.lower < 0 || (count - op.k).range.lower < 0 { return "k may be larger than the axis" }
    return nil
  }

  /// Element type, type of keys, and the expression of an element's key: an unsigned integer in the order of the elements.
  private func key(_ dtype: DType, largest: Bool) -> (element: String, key: String, text: String)? {
    switch dtype {
    case .f32: ("float", "u32", "apus_top_k_key_f32(x)\(largest ? " ^ ~0u" : "")")
    case .i32: ("i32", "u32", "((u32)(x) ^ \(largest ? "0x7fffffffu" : "0x80000000u"))")
    case .i64: ("i64", "u64", "((u64)(x) ^ \(largest ? "0x7fffffffffffffffu" : "0x8000000000000000u"))")
    default: nil
    }
  }

  /// NaN is as large as infinity, and both zeros are equal, as in the operation's reference.
  private static let floatKey = """
    APUS_INLINE u32 apus_top_k_key_f32(float x) {
      const float own = x != x ? __builtin_inff() : x + 0.0f;
      u32 bits;
      __builtin_memcpy(&bits, &own, 4);
      return bits ^ ((u32)((i32)bits >> 31) | 0x80000000u);
    }

    """

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    let node = region.node
    guard let op = node.op as? TopK else { return }
    let type = region.graph.tensorType(node.inputs[0])
    guard let key = key(type.dtype, largest: op.largest) else { return }
    let (count, inner) = (type.shape[op.axis], Dim.product(type.shape[(op.axis + 1)...]))
    let lines = Dim.product(type.shape[..<op.axis]) * inner
    let source = """
      \(KernelText.prelude)\(type.dtype == .f32 ? Self.floatKey : "")#define KERNEL KERNEL_NAME
      #define T \(key.element)
      #define KEY \(key.key)
      #define TOP_K_KEY(x) (\(key.text))
      \(KernelText.topK)void KERNEL_NAME(void *const *buffers, const i64 *params, i64 block, i64 blockCount, void *scratch) {
        const KERNEL_NAME_top_k_args g = {.x = buffers[0], .values = buffers[1], .places = buffers[2], .lines = params[0],
          .n = params[1], .inner = params[2], .k = params[3]};
        KERNEL_NAME_top_k(&g, block, blockCount, scratch);
      }

      """
    let code = KernelCode(
      source: source, parameters: [lines, count, inner, op.k],
      blocks: lines.ceilDivided(by: Dim(max(4096 / max(count.estimate, 1), 1))),
      scratchBytes: 2 * count * Dim((key.key == "u64" ? 8 : 4) + 4))
    builder.launch(
      code, buffers: [builder.slot(node.inputs[0])] + node.outputs.map { builder.allocate($0) }, name: op.name,
      sources: [node.name], tactic: name, work: type.elementCount)
  }
}
