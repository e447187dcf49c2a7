import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan

/// Pooling of boxes of feature maps, with as many samples of each as its size asks for.
struct BoxKernel: OperationKernel {
  let operations = ["roi_align", "max_roi_pool"]

  func refusal(_ node: Node, in graph: Graph) -> String? {
    let type = graph.tensorType(node.inputs[0])
    return [.f64, .f32, .f16, .bf16].contains(type.dtype) ? nil : "elements are \(type.dtype)"
  }

  func emit(_ node: Node, into builder: inout StepBuilder) {
    let (x, y) = (builder.graph.tensorType(node.inputs[0]), builder.graph.tensorType(node.outputs[0]))
    let align = node.op as? RoiAlign
    let scale = align?.spatialScale ?? (node.op as? MaxRoiPool)?.spatialScale ?? 1
    let arguments = """
        {p[0], p[1], p[2], p[3], p[4], p[5], p[6], \(align?.samplingRatio ?? 0), \(CDialect.float(scale, .f64)), \
      \(align?.halfPixel ?? false), \(align?.mode == .max)}
      """
    var buffers = node.inputs.map { builder.slot($0) }
    buffers.append(builder.allocate(node.outputs[0]))
    let raw = "typename KERNEL_NAME_op::raw"
    let (function, batches) =
      align == nil
      ? ("apus_roi_max<double, KERNEL_NAME_op>", "")
      : (
        "apus_roi_align<double, KERNEL_NAME_op>",
        "(const \(CDialect.storage(builder.graph.tensorType(node.inputs[2]).dtype)) *)b[2], "
      )
    OperationCall(
      texts: [CombiningText(name: "KERNEL_NAME_op", dtype: x.dtype).text, CUDAText.boxes],
      call: """
          const apus_roi_args g = \(arguments);
          \(function)(g, (const \(raw) *)b[0], (const \(raw) *)b[1], \(batches)(\(raw) *)b[\(buffers.count - 1)], block, \
        blockCount, 256);

        """,
      buffers: buffers,
      parameters: [y.shape[0], x.shape[0], x.shape[1], x.shape[2], x.shape[3], y.shape[2], y.shape[3]],
      units: y.elementCount.ceilDivided(by: 256)
    ).emit(node, tactic: "boxes", work: y.elementCount, into: &builder)
  }
}
