import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// The bits of elements, seen as another type's.
struct BitCastKernel: OperationKernel {
  let operations = ["bit_cast"]

  func refusal(_ node: Node, in graph: Graph) -> String? { nil }

  func emit(_ node: Node, into builder: inout StepBuilder) {
    let type = builder.graph.tensorType(node.inputs[0])
    let target = builder.graph.tensorType(node.outputs[0]).dtype
    let bits = "u\(8 * type.dtype.byteCount)"
    // What has fewer bits than its place in memory is brought into the form that the other type has there.
    let raw = type.dtype.bitWidth < 8 ? CDialect.storage(target) : bits
    let element = "((const \(raw) *)b[0])[i]"
    let value = type.dtype.bitWidth < 8 ? CDialect.stored(element, target) : element
    OperationCall(
      texts: [],
      call: """
          for (i64 i = block * 256 + threadIdx.x; i < p[0]; i += blockCount * 256) ((\(raw) *)b[1])[i] = \(value);

        """,
      buffers: [builder.slot(node.inputs[0]), builder.allocate(node.outputs[0])], parameters: [type.elementCount],
      units: type.elementCount.ceilDivided(by: 256)
    ).emit(node, tactic: "copy", work: 0, into: &builder)
  }
}
