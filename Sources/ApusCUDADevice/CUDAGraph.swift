import ApusCore
import ApusRuntime
import CApusCUDA

/// Recorded launches, ready to run.
final class CUDAGraph: CapturedWork {
  let handle: apus_cuda_graph_exec
  private let context: CUDAContext

  init(_ graph: apus_cuda_graph?, _ context: CUDAContext) throws(DeviceError) {
    self.context = context
    var handle: apus_cuda_graph_exec?
    try CUDADriver.check(apus_cuda_graph_instantiate(&handle, graph, 0), "making a graph")
    guard let handle else { throw DeviceError("APUS-D-0012", "the driver gave no graph", place: "the CUDA driver") }
    self.handle = handle
  }

  deinit {
    context.enter()
    _ = apus_cuda_graph_exec_destroy(handle)
  }

  /// Takes over the arguments of a recording of the same launches; false when that is not possible.
  func update(_ graph: apus_cuda_graph?) -> Bool {
    // CUgraphExecUpdateResultInfo: what differs, and the nodes concerned.
    var information: (Int, Int, Int) = (0, 0, 0)
    return apus_cuda_graph_update(handle, graph, &information) == APUS_CUDA_SUCCESS
  }
}
