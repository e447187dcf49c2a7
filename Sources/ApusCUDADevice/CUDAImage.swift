import ApusCore
import ApusPlan
import ApusRuntime
import CApusCUDA

/// Code loaded on a GPU; the driver compiles assembly.
final class CUDAImage: DeviceImage, @unchecked Sendable {
  private let context: CUDAContext
  private let module: apus_cuda_module
  /// Whether kernels wait for those in front, which code for 9.0 and later can.
  private let waits: Bool

  init(_ image: KernelImage, _ context: CUDAContext) throws(DeviceError) {
    self.context = context
    waits = (CUDACodeName(image.target)?.capability ?? 0) >= 90
    context.enter()
    var module: apus_cuda_module?
    let result = image.bytes.withUnsafeBytes { apus_cuda_module_load(&module, $0.baseAddress) }
    guard result == APUS_CUDA_SUCCESS, let module else {
      throw DeviceError(
        "APUS-D-0002", "the code cannot be loaded: \(CUDADriver.words(result))", place: "image '\(image.target)'",
        hint: "Build the engine again for this GPU.")
    }
    self.module = module
  }

  deinit {
    context.enter()
    _ = apus_cuda_module_unload(module)
  }

  func function(_ function: KernelFunction) throws(DeviceError) -> DeviceFunction {
    context.enter()
    var handle: apus_cuda_function?
    let result = apus_cuda_module_function(&handle, module, function.symbol)
    guard result == APUS_CUDA_SUCCESS, let handle else {
      throw DeviceError("APUS-D-0003", "the code has no function '\(function.symbol)'", hint: "Build the engine again.")
    }
    // More than this must be asked for.
    if function.sharedByteCount > 48 << 10 {
      try CUDADriver.check(
        apus_cuda_function_set(
          handle, Int32(APUS_CUDA_FUNCTION_MAX_DYNAMIC_SHARED_BYTES), Int32(function.sharedByteCount)),
        "asking for \(function.sharedByteCount) bytes of shared memory for '\(function.symbol)'")
    }
    return DeviceFunction(
      handle: UnsafeMutableRawPointer(handle), threads: function.threads, sharedByteCount: function.sharedByteCount,
      waits: waits)
  }
}
