import ApusCore
import ApusRuntime
import CApusCUDA

/// Device memory in a pool of the driver, which keeps what is given back for the next who asks.
final class MemoryPool: @unchecked Sendable {
  private let context: CUDAContext
  private let pool: apus_cuda_pool
  /// Orders allocations and releases among themselves.
  private let stream: apus_cuda_stream
  /// Bytes that were free when the device was opened.
  private let freeAtStart: Int

  init(_ context: CUDAContext) throws(DeviceError) {
    self.context = context
    context.enter()
    freeAtStart = MemoryPool.free().available
    var pool: apus_cuda_pool?
    try CUDADriver.check(apus_cuda_make_pool(&pool, context.device), "making a memory pool")
    guard let pool else { throw DeviceError("APUS-D-0012", "the driver gave no pool", place: "the CUDA driver") }
    self.pool = pool
    var stream: apus_cuda_stream?
    do throws(DeviceError) {
      var threshold = UInt64.max
      try CUDADriver.check(
        apus_cuda_pool_set(pool, Int32(APUS_CUDA_POOL_RELEASE_THRESHOLD), &threshold), "setting up the memory pool")
      try CUDADriver.check(
        apus_cuda_stream_create(&stream, UInt32(APUS_CUDA_STREAM_NON_BLOCKING), 0), "making a stream")
    } catch {
      _ = apus_cuda_pool_destroy(pool)
      throw error
    }
    guard let stream else { throw DeviceError("APUS-D-0012", "the driver gave no stream", place: "the CUDA driver") }
    self.stream = stream
  }

  deinit {
    context.enter()
    _ = apus_cuda_stream_synchronize(stream)
    _ = apus_cuda_stream_destroy(stream)
    _ = apus_cuda_pool_destroy(pool)
  }

  private static func free() -> (available: Int, all: Int) {
    var (available, all) = (0, 0)
    _ = apus_cuda_memory_info(&available, &all)
    return (available, all)
  }

  func allocate(_ byteCount: Int) throws(DeviceError) -> DeviceBuffer {
    context.enter()
    var address: apus_cuda_address?
    var result = apus_cuda_allocate(&address, max(byteCount, 64), pool, stream)
    if result == APUS_CUDA_OUT_OF_MEMORY {
      // What is kept for the next who asks may be too small for this one, and keeps others from it.
      trim()
      result = apus_cuda_allocate(&address, max(byteCount, 64), pool, stream)
    }
    if result == APUS_CUDA_OUT_OF_MEMORY {
      trim()
      let (available, all) = MemoryPool.free()
      throw DeviceError(
        "APUS-D-0001", "\(byteCount) bytes cannot be allocated: \(available) of the GPU's \(all) are free",
        hint: "Run smaller shapes or fewer contexts, or end other programs that use the GPU.")
    }
    try CUDADriver.check(result, "allocating \(byteCount) bytes")
    guard let address else { throw DeviceError("APUS-D-0012", "the driver gave no memory", place: "the CUDA driver") }
    let buffer = DeviceBuffer(base: address, byteCount: byteCount) { [self] address in
      // Whoever gives memory back has waited for what used it.
      context.enter()
      _ = apus_cuda_free(address, stream)
    }
    // Other streams may use it from now on.
    try CUDADriver.check(apus_cuda_stream_synchronize(stream), "allocating \(byteCount) bytes")
    return buffer
  }

  /// Gives the driver back what nobody uses.
  private func trim() {
    _ = apus_cuda_stream_synchronize(stream)
    _ = apus_cuda_pool_trim(pool, 0)
  }

  // MARK: Use

  private func number(_ attribute: Int) -> Int {
    var value: UInt64 = 0
    return apus_cuda_pool_get(pool, Int32(attribute), &value) == APUS_CUDA_SUCCESS ? Int(clamping: value) : 0
  }

  var use: DeviceMemoryUse {
    context.enter()
    let taken = freeAtStart - MemoryPool.free().available - number(APUS_CUDA_POOL_RESERVED)
    return DeviceMemoryUse(
      peakByteCount: number(APUS_CUDA_POOL_USED_PEAK), byteCount: number(APUS_CUDA_POOL_USED),
      driverByteCount: max(taken, 0))
  }

  func resetPeak() {
    context.enter()
    // Setting it to anything but zero is not allowed: it becomes what is in use.
    var zero: UInt64 = 0
    _ = apus_cuda_pool_set(pool, Int32(APUS_CUDA_POOL_USED_PEAK), &zero)
  }
}
