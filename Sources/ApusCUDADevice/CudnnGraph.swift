import ApusCore
import ApusPlan
import CApusCUDA

/// A convolution and what follows it as cuDNN's operation graph.
struct CudnnGraph {
  /// Bytes that all addresses but that of working memory are multiples of.
  static let alignment = 16
  /// Configurations of kernels that are asked for.
  private static let configurationLimit = 16

  private let convolution: LibraryConvolution
  private let sizes: [Int]
  private var operations: [CudnnDescriptor] = []
  private var tensors: [Int64] = []
  private var virtualCount: Int64 = 0

  /// - Parameter sizes: as ``LibraryConvolution`` has them, positive.
  init(_ convolution: LibraryConvolution, _ sizes: [Int]) throws(DeviceError) {
    self.convolution = convolution
    self.sizes = sizes
    let rank = convolution.rank
    let (places, results) = (Array(sizes[1...rank]), Array(sizes[(1 + rank)...]))
    let image = try tensor([sizes[0], convolution.channels] + places)
    let weights = try tensor([convolution.outputs, convolution.channels / convolution.groups] + convolution.kernel)
    let shape = [sizes[0], convolution.outputs] + results
    var steps = 0
    let all = (convolution.hasAddend ? 1 : 0) + (convolution.hasBias ? 1 : 0) + (convolution.isRectified ? 1 : 0)
    let addend = convolution.hasAddend ? try tensor(shape) : nil
    let bias = convolution.hasBias ? try tensor([1, convolution.outputs] + results.map { _ in 1 }) : nil
    let result = try tensor(shape)
    /// What the next operation writes: the result after the last one, else numbers that stay in registers.
    func target(_ graph: inout CudnnGraph) throws(DeviceError) -> CudnnDescriptor {
      steps += 1
      return steps > all ? result : try graph.between(shape)
    }
    var current = try target(&self)
    try convolve(image, weights, current)
    for other in [addend, bias].compactMap({ $0 }) {
      let next = try target(&self)
      try pointwise(APUS_CUDNN_POINTWISE_ADD, current, other, next)
      current = next
    }
    if convolution.isRectified {
      let next = try target(&self)
      try pointwise(APUS_CUDNN_POINTWISE_RELU, current, nil, next)
    }
  }

  // MARK: Parts

  /// A tensor in memory with channels innermost, of a shape with channels second; known by its place among the buffers.
  private mutating func tensor(_ shape: [Int]) throws(DeviceError) -> CudnnDescriptor {
    tensors.append(Int64(tensors.count + 1))
    return try describe(shape, tensors.count, Self.type(convolution.dtype), isVirtual: false)
  }

  /// Numbers between two operations.
  private mutating func between(_ shape: [Int]) throws(DeviceError) -> CudnnDescriptor {
    virtualCount += 1
    return try describe(shape, 100 + Int(virtualCount), APUS_CUDNN_F32, isVirtual: true)
  }

  private func describe(
    _ shape: [Int], _ id: Int, _ type: Int, isVirtual: Bool
  ) throws(DeviceError) -> CudnnDescriptor {
    var strides = [Int](repeating: 1, count: shape.count)
    var stride = shape[1]
    for axis in (2..<shape.count).reversed() {
      strides[axis] = stride
      stride *= shape[axis]
    }
    strides[0] = stride
    let tensor = try CudnnDescriptor(APUS_CUDNN_TENSOR)
    try tensor.set(APUS_CUDNN_TENSOR_TYPE, APUS_CUDNN_TYPE_DATA_TYPE, type)
    try tensor.set(APUS_CUDNN_TENSOR_SIZES, shape.map { Int64($0) })
    try tensor.set(APUS_CUDNN_TENSOR_STRIDES, strides.map { Int64($0) })
    try tensor.set(APUS_CUDNN_TENSOR_ID, [Int64(id)])
    try tensor.set(APUS_CUDNN_TENSOR_ALIGNMENT, [Int64(Self.alignment)])
    if isVirtual { try tensor.set(APUS_CUDNN_TENSOR_IS_VIRTUAL, true) }
    try tensor.finalize("describing a tensor of \(shape)")
    return tensor
  }

  private static func type(_ dtype: DType) -> Int {
    switch dtype {
    case .f16: APUS_CUDNN_F16
    case .bf16: APUS_CUDNN_BF16
    default: APUS_CUDNN_F32
    }
  }

  private mutating func convolve(
    _ image: CudnnDescriptor, _ weights: CudnnDescriptor, _ result: CudnnDescriptor
  ) throws(DeviceError) {
    let window = try CudnnDescriptor(APUS_CUDNN_CONVOLUTION)
    try window.set(APUS_CUDNN_CONVOLUTION_AXES, [Int64(convolution.rank)])
    try window.set(APUS_CUDNN_CONVOLUTION_COMPUTE, APUS_CUDNN_TYPE_DATA_TYPE, APUS_CUDNN_F32)
    try window.set(APUS_CUDNN_CONVOLUTION_MODE, APUS_CUDNN_TYPE_CONVOLUTION_MODE, APUS_CUDNN_CROSS_CORRELATION)
    try window.set(APUS_CUDNN_CONVOLUTION_STRIDES, convolution.strides.map { Int64($0) })
    try window.set(APUS_CUDNN_CONVOLUTION_DILATIONS, convolution.dilations.map { Int64($0) })
    try window.set(APUS_CUDNN_CONVOLUTION_PADS, convolution.pads.map { Int64($0) })
    try window.set(APUS_CUDNN_CONVOLUTION_PADS_BEHIND, convolution.padsBehind(sizes).map { Int64($0) })
    try window.finalize("describing a convolution")
    let operation = try CudnnDescriptor(APUS_CUDNN_OPERATION_CONVOLUTION)
    try operation.set(APUS_CUDNN_OPERATION_CONVOLUTION_WINDOW, [window])
    try operation.set(APUS_CUDNN_OPERATION_CONVOLUTION_IMAGE, [image])
    try operation.set(APUS_CUDNN_OPERATION_CONVOLUTION_WEIGHTS, [weights])
    try operation.set(APUS_CUDNN_OPERATION_CONVOLUTION_RESULT, [result])
    try operation.set(APUS_CUDNN_OPERATION_CONVOLUTION_ALPHA, Float(1))
    try operation.set(APUS_CUDNN_OPERATION_CONVOLUTION_BETA, Float(0))
    try operation.finalize("describing a convolution")
    operations.append(operation)
  }

  private mutating func pointwise(
    _ mode: Int, _ x: CudnnDescriptor, _ b: CudnnDescriptor?, _ result: CudnnDescriptor
  ) throws(DeviceError) {
    let function = try CudnnDescriptor(APUS_CUDNN_POINTWISE)
    try function.set(APUS_CUDNN_POINTWISE_MODE, APUS_CUDNN_TYPE_POINTWISE_MODE, mode)
    try function.set(APUS_CUDNN_POINTWISE_COMPUTE, APUS_CUDNN_TYPE_DATA_TYPE, APUS_CUDNN_F32)
    try function.finalize("describing function \(mode)")
    let operation = try CudnnDescriptor(APUS_CUDNN_OPERATION_POINTWISE)
    try operation.set(APUS_CUDNN_OPERATION_POINTWISE_FUNCTION, [function])
    try operation.set(APUS_CUDNN_OPERATION_POINTWISE_X, [x])
    if let b { try operation.set(APUS_CUDNN_OPERATION_POINTWISE_B, [b]) }
    try operation.set(APUS_CUDNN_OPERATION_POINTWISE_RESULT, [result])
    try operation.finalize("describing function \(mode)")
    operations.append(operation)
  }

  // MARK: Choosing

  /// A plan of kernels: by the configuration of a rank in the library's own order, or the next one after it that can be used, from
  /// the start again after the last.
  ///
  /// - Throws: ``DeviceError`` `APUS-D-0020` when there is none.
  func plan(rank: Int, workspaceByteCount: Int, _ handle: apus_cudnn) throws(DeviceError) -> CudnnPlan {
    let graph = try CudnnDescriptor(APUS_CUDNN_OPERATION_GRAPH)
    try graph.set(APUS_CUDNN_GRAPH_HANDLE, handle: handle)
    try graph.set(APUS_CUDNN_GRAPH_OPERATIONS, operations)
    try graph.finalize("describing a graph of \(operations.count) operations")
    var configurations: [CudnnDescriptor] = []
    for mode in [APUS_CUDNN_HEURISTIC_A, APUS_CUDNN_HEURISTIC_FALLBACK] {
      configurations += (try? suggestions(graph, mode)) ?? []
    }
    let first = configurations.isEmpty ? 0 : min(rank, configurations.count - 1)
    for configuration in configurations[first...] + configurations[..<first] {
      guard (try? keepsNumbers(configuration)) == true,
        let plan = try? Self.plan(of: configuration, handle)
      else { continue }
      let needed = try plan.int(APUS_CUDNN_PLAN_WORKSPACE)
      if needed <= workspaceByteCount { return CudnnPlan(plan: plan, workspaceByteCount: needed, tensors: tensors) }
    }
    throw DeviceError(
      "APUS-D-0020",
      "the library has no kernel for a convolution of \(sizes) by \(convolution.kernel) in \(convolution.dtype)",
      place: "cuDNN")
  }

  private func suggestions(_ graph: CudnnDescriptor, _ mode: Int) throws(DeviceError) -> [CudnnDescriptor] {
    let heuristic = try CudnnDescriptor(APUS_CUDNN_HEURISTIC)
    try heuristic.set(APUS_CUDNN_HEURISTIC_GRAPH, [graph])
    try heuristic.set(APUS_CUDNN_HEURISTIC_MODE, APUS_CUDNN_TYPE_HEURISTIC_MODE, mode)
    try heuristic.finalize("looking for kernels")
    return try heuristic.descriptors(
      APUS_CUDNN_HEURISTIC_RESULTS, kind: APUS_CUDNN_CONFIGURATION, limit: Self.configurationLimit)
  }

  /// Whether kernels sum in f32, in one order, and of f32 what is given: no TF32.
  private func keepsNumbers(_ configuration: CudnnDescriptor) throws(DeviceError) -> Bool {
    let engines = try configuration.descriptors(APUS_CUDNN_CONFIGURATION_ENGINE, kind: APUS_CUDNN_ENGINE, limit: 1)
    guard let engine = engines.first else { return false }
    let notes = try engine.values(APUS_CUDNN_ENGINE_NOTES, APUS_CUDNN_TYPE_NUMERICAL_NOTE, limit: 10).map { Int($0) }
    var unwanted = [APUS_CUDNN_NOTE_CONVERTS_DOWN, APUS_CUDNN_NOTE_SUMS_SHORT, APUS_CUDNN_NOTE_VARIES]
    if convolution.dtype == .f32 { unwanted.append(APUS_CUDNN_NOTE_TENSOR_CORES) }
    return notes.allSatisfy { !unwanted.contains($0) }
  }

  private static func plan(
    of configuration: CudnnDescriptor, _ handle: apus_cudnn
  ) throws(DeviceError) -> CudnnDescriptor {
    let plan = try CudnnDescriptor(APUS_CUDNN_PLAN)
    try plan.set(APUS_CUDNN_PLAN_HANDLE, handle: handle)
    try plan.set(APUS_CUDNN_PLAN_CONFIGURATION, [configuration])
    try plan.finalize("making kernels")
    return plan
  }
}
