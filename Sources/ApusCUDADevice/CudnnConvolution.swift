import ApusCore
import ApusPlan
import CApusCUDA
import Synchronization

/// cuDNN's state for one GPU. The handle is used by one thread at a time.
final class Cudnn: @unchecked Sendable {
  private let handle: apus_cudnn
  private let context: CUDAContext
  private let lock = Mutex(())

  init(_ context: CUDAContext) throws(DeviceError) {
    self.context = context
    context.enter()
    var handle: apus_cudnn?
    try Self.check(apus_cudnn_create(&handle), "starting the library")
    guard let handle else { throw DeviceError("APUS-D-0020", "the library gave no handle", place: "cuDNN") }
    self.handle = handle
  }

  deinit {
    context.enter()
    _ = apus_cudnn_destroy(handle)
  }

  /// Calls `body` with the handle, which queues on a stream.
  func use(
    on stream: apus_cuda_stream? = nil, _ body: (apus_cudnn) throws(DeviceError) -> Void
  ) throws(DeviceError) {
    let result = lock.withLock { _ -> Result<Void, DeviceError> in
      Result { () throws(DeviceError) in
        try Self.check(apus_cudnn_set_stream(handle, stream), "choosing a stream")
        try body(handle)
      }
    }
    try result.get()
  }

  static func check(_ result: Int32, _ what: @autoclosure () -> String) throws(DeviceError) {
    if result == APUS_CUDNN_SUCCESS { return }
    let words = apus_cudnn_text(result).map { String(cString: $0) } ?? "error"
    throw DeviceError("APUS-D-0020", "\(what()) failed: \(words) (\(result))", place: "cuDNN")
  }
}

/// A convolution that cuDNN has made ready: shared by all calls of the same.
final class CudnnPlan: @unchecked Sendable {
  let plan: CudnnDescriptor
  let workspaceByteCount: Int
  /// Numbers by which the plan knows the buffers, in their order without working memory.
  let tensors: [Int64]

  init(plan: CudnnDescriptor, workspaceByteCount: Int, tensors: [Int64]) {
    self.plan = plan
    self.workspaceByteCount = workspaceByteCount
    self.tensors = tensors
  }
}

/// A convolution by cuDNN's graph interface, with its addresses.
final class CudnnConvolution: CUDACall {
  private let library: Cudnn
  /// Nil for a result without elements.
  private let plan: CudnnPlan?
  private var pack: CudnnDescriptor?
  private var addresses: [UnsafeMutableRawPointer?] = []

  static let workspaceAlignment = 256

  init(_ plan: CudnnPlan?, _ library: Cudnn) {
    self.plan = plan
    self.library = library
  }

  func queue(
    on stream: apus_cuda_stream, _ buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>
  ) throws(DeviceError) {
    guard let plan else { return }
    if pack == nil || !addresses.elementsEqual(buffers) {
      for (index, address) in buffers.dropLast().enumerated()
      where Int(bitPattern: address) % CudnnGraph.alignment != 0 {
        throw DeviceError(
          "APUS-D-0020", "buffer \(index) of a convolution begins at no multiple of \(CudnnGraph.alignment) bytes",
          place: "cuDNN", hint: "Bind memory that is aligned to 64 bytes.")
      }
      let workspace = buffers[buffers.count - 1].map { $0.alignedUp(toMultipleOf: Self.workspaceAlignment) }
      let pack = try CudnnDescriptor(APUS_CUDNN_VARIANT_PACK)
      try pack.set(APUS_CUDNN_PACK_IDS, plan.tensors)
      try pack.set(APUS_CUDNN_PACK_POINTERS, Array(buffers.dropLast()))
      try pack.set(APUS_CUDNN_PACK_WORKSPACE, [workspace])
      try pack.finalize("naming addresses")
      self.pack = pack
      addresses = Array(buffers)
    }
    try library.use(on: stream) { handle throws(DeviceError) in
      try Cudnn.check(apus_cudnn_execute(handle, plan.plan.handle, pack?.handle), "queueing a convolution")
    }
  }
}
