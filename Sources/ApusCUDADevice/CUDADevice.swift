public import ApusCore
public import ApusPlan
public import ApusRuntime
import CApusCUDA

/// A GPU by the CUDA driver.
public final class CUDADevice: Device {
  public let name: String
  public let identity: DeviceIdentity
  public let memoryByteCount: Int
  public let scratchCount = 1
  public let sharesHostMemory = false
  let processor: CUDADriver.Processor
  let context: CUDAContext
  private let pool: MemoryPool
  private let libraries: CUDALibraries

  /// - Parameter ordinal: the GPU's number in the driver's order.
  /// - Throws: ``DeviceError`` `APUS-D-0010…0012` when there is no driver, `-0013` when there is no such GPU.
  public init(ordinal: Int = 0) throws(DeviceError) {
    let processors = try CUDADriver.processors()
    guard processors.indices.contains(ordinal) else {
      throw DeviceError(
        "APUS-D-0013", "there is no GPU \(ordinal): the driver lists \(processors.count)", place: "the CUDA driver",
        hint: "`apus doctor` lists them. CUDA_VISIBLE_DEVICES may hide some.")
    }
    processor = processors[ordinal]
    name = "cuda:\(ordinal) (\(processor.name))"
    memoryByteCount = processor.memoryByteCount
    identity = DeviceIdentity(
      target: processor.architecture, model: processor.name, driver: try CUDADriver.version(),
      cacheByteCount: processor.l2ByteCount)
    context = try CUDAContext(ordinal: ordinal)
    pool = try MemoryPool(context)
    libraries = CUDALibraries(context)
  }

  public func suitability(of fingerprint: Fingerprint) throws(EngineFileError) -> Int {
    if fingerprint.backend != "cuda" {
      throw EngineFileError(
        "APUS-E-0011", "the engine is for backend '\(fingerprint.backend)', this device is 'cuda'",
        place: "fingerprint", hint: "Build the engine with --backend cuda.")
    }
    let code = CUDACodeName(fingerprint.target)
    guard let suitability = code?.suitability(major: processor.major, minor: processor.minor) else {
      throw EngineFileError(
        "APUS-E-0012",
        "the engine is for \(fingerprint.target), this GPU (\(processor.name)) is \(processor.architecture)",
        place: "fingerprint", hint: "Build the engine with --target \(processor.architecture).")
    }
    return suitability
  }

  public func allocate(byteCount: Int) throws(DeviceError) -> DeviceBuffer { try pool.allocate(byteCount) }

  public func allocatePinned(byteCount: Int) throws(DeviceError) -> PinnedBuffer {
    let memory = try PinnedMemory(byteCount: max(byteCount, 64), context)
    return PinnedBuffer(bytes: UnsafeMutableRawBufferPointer(start: memory.base, count: byteCount)) { _ in
      withExtendedLifetime(memory) {}
    }
  }

  public func allocateManaged(byteCount: Int) throws(DeviceError) -> DeviceBuffer {
    let memory = try ManagedMemory(byteCount: max(byteCount, 64), context)
    return DeviceBuffer(base: memory.base, byteCount: byteCount) { _ in withExtendedLifetime(memory) {} }
  }

  public var memoryUse: DeviceMemoryUse? { pool.use }

  public func resetMemoryPeak() { pool.resetPeak() }

  public func place(constants: UnsafeRawBufferPointer) throws(DeviceError) -> DeviceBuffer? {
    let buffer = try pool.allocate(max(constants.count, 64))
    let stream = try CUDAStream(context)
    try stream.uploadInParts(constants, to: buffer.base)
    return buffer
  }

  public func load(_ image: KernelImage) throws(DeviceError) -> any DeviceImage { try CUDAImage(image, context) }

  public func encode(_ map: DeviceTensorMap, to target: UnsafeMutableRawPointer) throws(DeviceError) {
    let rank = map.map.sizes.count
    let type: Int
    switch map.map.dtype {
    case .f16: type = APUS_CUDA_MAP_F16
    case .bf16: type = APUS_CUDA_MAP_BF16
    case .f32: type = APUS_CUDA_MAP_F32
    default:
      throw DeviceError("APUS-D-0015", "tiles of \(map.map.dtype) are not copied by the copy engine", place: name)
    }
    let sizes = (0..<rank).map { UInt64(clamping: map.numbers[$0]) }
    let strides = (rank..<2 * rank - 1).map { UInt64(clamping: map.numbers[$0]) }
    let box = map.map.box.map { UInt32($0) }
    if let windows = map.map.windows {
      let upper = (0..<rank - 2).map { Int32(clamping: map.numbers[2 * rank - 1 + $0]) }
      let result = apus_cuda_window_map(
        target, Int32(type), UInt32(rank), map.address, sizes, strides, windows.lower.map { Int32($0) }, upper, box[0],
        box[1], [1] + windows.steps.map { UInt32($0) } + [1], 0, Int32(APUS_CUDA_MAP_SWIZZLE_128),
        Int32(APUS_CUDA_MAP_PROMOTE_256), 0)
      return try CUDADriver.check(
        result, "describing windows \(windows.lower) … \(upper) of a tensor of sizes \(sizes), strides \(strides)")
    }
    let steps = [UInt32](repeating: 1, count: rank)
    let result = apus_cuda_tensor_map(
      target, Int32(type), UInt32(rank), map.address, sizes, strides, box, steps, 0,
      Int32(APUS_CUDA_MAP_SWIZZLE_128), Int32(APUS_CUDA_MAP_PROMOTE_256), 0)
    try CUDADriver.check(result, "describing a tensor of sizes \(sizes), strides \(strides) in boxes of \(box)")
  }

  public func version(of library: Library) throws(DeviceError) -> Int { try CUDALibraries.version(of: library) }

  public func prepare(
    _ call: LibraryCall, sizes: [Int], workspaceByteCount: Int
  ) throws(DeviceError) -> any DeviceCall {
    context.enter()
    return try libraries.prepare(call, sizes: sizes, workspaceByteCount: workspaceByteCount)
  }

  public func makeStream(priority: StreamPriority) throws(DeviceError) -> any DeviceStream {
    context.enter()
    var (least, greatest): (Int32, Int32) = (0, 0)
    try CUDADriver.check(apus_cuda_priority_range(&least, &greatest), "reading the range of priorities")
    let number =
      switch priority {
      case .low: least
      case .normal: (least + greatest) / 2
      case .high: greatest
      }
    return try CUDAStream(context, priority: Int(number), overlaps: processor.major >= 9)
  }
}

extension CUDADevice {
  /// A queue of work on a stream that the caller made (a `CUstream` of this GPU's primary context) and keeps until the queue is
  /// released.
  public func adopt(stream: UnsafeMutableRawPointer) -> any DeviceStream {
    CUDAStream(context, adopting: apus_cuda_stream(stream), overlaps: processor.major >= 9)
  }
}

/// The primary context of a GPU, kept as long as something uses it.
final class CUDAContext: @unchecked Sendable {
  let handle: apus_cuda_context
  let device: apus_cuda_device

  init(ordinal: Int) throws(DeviceError) {
    var device: apus_cuda_device = 0
    try CUDADriver.check(apus_cuda_device_get(&device, Int32(ordinal)), "opening GPU \(ordinal)")
    var handle: apus_cuda_context?
    try CUDADriver.check(apus_cuda_context_retain(&handle, device), "opening GPU \(ordinal)")
    guard let handle else { throw DeviceError("APUS-D-0012", "the driver gave no context", place: "GPU \(ordinal)") }
    self.handle = handle
    self.device = device
  }

  deinit { _ = apus_cuda_context_release(device) }

  /// Makes the calling thread work with the GPU.
  func enter() { _ = apus_cuda_context_set_current(handle) }
}

extension CUDADriver.Processor {
  /// The architecture that code for this GPU alone is compiled for: `sm_90a`.
  package var architecture: String { "sm_\(major)\(minor)" + (major >= 9 && major != 12 ? "a" : "") }
}
