import ApusCore
import ApusPlan
import ApusRuntime
import CApusCUDA
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The libraries of NVIDIA that steps call, opened when the first engine needs them, and what a GPU keeps of them.
final class CUDALibraries: Sendable {
  private let context: CUDAContext
  private let products = Mutex<CublasLt?>(nil)
  private let convolutions = Mutex<Cudnn?>(nil)
  /// Convolutions that are ready, which takes the library long.
  private let plans = Mutex<[PlanKey: CudnnPlan]>([:])

  private struct PlanKey: Hashable {
    let convolution: LibraryConvolution
    let sizes: [Int]
    let rank: Int
    let workspaceByteCount: Int
  }

  init(_ context: CUDAContext) { self.context = context }

  /// - Throws: ``DeviceError`` `APUS-D-0019` when the library is not here.
  static func version(of library: Library) throws(DeviceError) -> Int {
    switch library {
    case .cublasLt: try cublasLt.get()
    case .cudnn: try cudnn.get()
    }
  }

  private static let cublasLt = open(.cublasLt) { apus_cublaslt_bind($0) }
  private static let cudnn = open(.cudnn) { apus_cudnn_bind($0) }

  /// Opens a library for good, finds its functions and reads its version.
  private static func open(
    _ library: CUDALibrary, bind: (UnsafeMutableRawPointer) -> UnsafePointer<CChar>?
  ) -> Result<Int, DeviceError> {
    let finding = library.find()
    guard let name = finding.name, let handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL) else {
      return .failure(
        DeviceError(
          "APUS-D-0019", "\(library.title) is not here: \(finding.reason)",
          place: library.names.joined(separator: ", "),
          hint: "Install it, or add its folder to LD_LIBRARY_PATH. `apus doctor` lists what was tried."))
    }
    let missing = bind(handle).map { String(cString: $0) }
    guard missing == nil, let version = library.number(handle) else {
      return .failure(
        DeviceError(
          "APUS-D-0019", "\(library.title) has no function \(missing ?? "that tells its version")",
          place: finding.path ?? name, hint: "Install a newer one."))
    }
    return .success(version)
  }

  /// - Throws: ``DeviceError`` `APUS-D-0019` when the library is not here, `APUS-D-0020` when it cannot compute the call.
  func prepare(_ call: LibraryCall, sizes: [Int], workspaceByteCount: Int) throws(DeviceError) -> any CUDACall {
    switch call.operation {
    case .matmul(let matmul):
      _ = try Self.cublasLt.get()
      let library = try made(products) { context throws(DeviceError) in try CublasLt(context) }
      return try CublasProduct(matmul, rank: call.rank, sizes, workspaceByteCount: workspaceByteCount, library)
    case .convolution(let convolution):
      _ = try Self.cudnn.get()
      let library = try made(convolutions) { context throws(DeviceError) in try Cudnn(context) }
      let key = PlanKey(
        convolution: convolution, sizes: sizes, rank: call.rank,
        workspaceByteCount: workspaceByteCount - CudnnConvolution.workspaceAlignment)
      return CudnnConvolution(try plan(key, library), library)
    }
  }

  /// What a GPU keeps of a library, made when it is first asked for.
  private func made<Value: Sendable>(
    _ known: borrowing Mutex<Value?>, _ make: (CUDAContext) throws(DeviceError) -> Value
  ) throws(DeviceError) -> Value {
    let context = context
    let result = known.withLock { known -> Result<Value, DeviceError> in
      if let known { return .success(known) }
      return Result { () throws(DeviceError) in
        let value = try make(context)
        known = value
        return value
      }
    }
    return try result.get()
  }

  /// Nil for a result without elements.
  private func plan(_ key: PlanKey, _ library: Cudnn) throws(DeviceError) -> CudnnPlan? {
    if key.sizes.contains(0) { return nil }
    if let known = plans.withLock({ $0[key] }) { return known }
    var plan: CudnnPlan?
    try library.use { handle throws(DeviceError) in
      plan = try CudnnGraph(key.convolution, key.sizes)
        .plan(rank: key.rank, workspaceByteCount: key.workspaceByteCount, handle)
    }
    plans.withLock { $0[key] = plan }
    return plan
  }
}

/// A library call that is ready for its sizes.
protocol CUDACall: DeviceCall {
  /// - Parameter buffers: addresses in the order of the call's buffers.
  /// - Throws: ``DeviceError`` `APUS-D-0020` with the library's words.
  func queue(
    on stream: apus_cuda_stream, _ buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>
  ) throws(DeviceError)
}
