public import ApusCore
public import ApusPlan

/// What runs kernels: a processor or an accelerator with its memory.
///
/// Addresses of device memory are plain pointers; whether the host may read and write there is the device's to say. A device
/// is shared by engines and threads.
public protocol Device: AnyObject, Sendable {
  /// What the device is called in messages.
  var name: String { get }

  /// What it is beyond its name.
  var identity: DeviceIdentity { get }

  /// Whether memory of the device is the host's too. If not, the host reaches it by ``DeviceStream`` only.
  var sharesHostMemory: Bool { get }

  /// Bytes of memory there are in all: no plan that needs more is bound.
  var memoryByteCount: Int { get }

  /// Number of threads that a launch may use at once, each with its own scratch.
  var scratchCount: Int { get }

  /// How well code for a target suits this device: of an engine's targets the one with the greatest number runs.
  ///
  /// - Throws: ``EngineFileError`` `APUS-E-0011` (backend), `APUS-E-0012` (target or features) with what is missing, where the
  ///   device cannot run it.
  func suitability(of fingerprint: Fingerprint) throws(EngineFileError) -> Int

  /// Allocates bytes whose content is undefined, 64-byte aligned.
  ///
  /// - Throws: ``DeviceError`` `APUS-D-0001` when there is not enough memory.
  func allocate(byteCount: Int) throws(DeviceError) -> DeviceBuffer

  /// Allocates memory of the host that copies to and from the device go through directly, 64-byte aligned; its content is
  /// undefined.
  ///
  /// - Throws: ``DeviceError`` `APUS-D-0001` when there is not enough memory.
  func allocatePinned(byteCount: Int) throws(DeviceError) -> PinnedBuffer

  /// Allocates memory that the device and the host both reach: its parts move to whoever touches them. The host may touch it
  /// while no run that is queued uses it.
  ///
  /// - Throws: ``DeviceError`` `APUS-D-0001` when that is more than the device has free.
  func allocateManaged(byteCount: Int) throws(DeviceError) -> DeviceBuffer

  /// What this process holds of the device's memory; nil where that is the host's.
  var memoryUse: DeviceMemoryUse? { get }

  /// Counts the peak of ``memoryUse`` from now on.
  func resetMemoryPeak()

  /// Brings constants to where kernels read them; nil when they can be read where they are.
  func place(constants: UnsafeRawBufferPointer) throws(DeviceError) -> DeviceBuffer?

  /// Loads compiled code.
  ///
  /// - Throws: ``DeviceError`` `APUS-D-0002` with the loader's reason.
  func load(_ image: KernelImage) throws(DeviceError) -> any DeviceImage

  /// Writes the description of a tensor that kernels have copied tile by tile.
  ///
  /// - Throws: ``DeviceError`` `APUS-D-0015` when the device cannot copy like that.
  func encode(_ map: DeviceTensorMap, to target: UnsafeMutableRawPointer) throws(DeviceError)

  /// The version of a library that plans call, in the library's own number.
  ///
  /// - Throws: ``DeviceError`` `APUS-D-0019` when it is not here, with where it was looked for.
  func version(of library: Library) throws(DeviceError) -> Int

  /// Makes a library call ready for sizes that are known.
  ///
  /// - Parameter workspaceByteCount: of the call's last buffer.
  /// - Throws: ``DeviceError`` `APUS-D-0019` as ``version(of:)``, `APUS-D-0020` when the library cannot compute it.
  func prepare(
    _ call: LibraryCall, sizes: [Int], workspaceByteCount: Int
  ) throws(DeviceError) -> any DeviceCall

  /// Finds out what the device can do at most; nil where that cannot be said.
  func ceilings() throws(DeviceError) -> DeviceCeilings?

  /// Makes a queue of work. Each context has its own unless it is given one.
  func makeStream(priority: StreamPriority) throws(DeviceError) -> any DeviceStream
}

extension Device {
  public func allocatePinned(byteCount: Int) throws(DeviceError) -> PinnedBuffer { .ordinary(byteCount: byteCount) }

  public func allocateManaged(byteCount: Int) throws(DeviceError) -> DeviceBuffer {
    if sharesHostMemory { return try allocate(byteCount: byteCount) }
    throw DeviceError("APUS-D-0018", "\(name) has no memory that the host reaches too")
  }

  public var memoryUse: DeviceMemoryUse? { nil }

  public func ceilings() throws(DeviceError) -> DeviceCeilings? { nil }

  public func resetMemoryPeak() {}

  public func makeStream() throws(DeviceError) -> any DeviceStream { try makeStream(priority: .normal) }

  public func version(of library: Library) throws(DeviceError) -> Int {
    throw DeviceError("APUS-D-0019", "\(name) has no \(library.name)")
  }

  public func prepare(
    _ call: LibraryCall, sizes: [Int], workspaceByteCount: Int
  ) throws(DeviceError) -> any DeviceCall {
    throw DeviceError("APUS-D-0019", "\(name) has no \(call.library.name)")
  }

  public func encode(_ map: DeviceTensorMap, to target: UnsafeMutableRawPointer) throws(DeviceError) {
    throw DeviceError("APUS-D-0015", "\(name) has no engine that copies tiles of tensors")
  }
}

/// What a device is: for messages, and for telling apart the figures measured on devices.
public struct DeviceIdentity: Sendable, Hashable {
  /// The target that code for this device alone is built for: `sm_90a`, `x86-64-v4`.
  public var target: String
  /// `NVIDIA H200`, `AMD EPYC 9655, 8 threads`.
  public var model: String
  /// Version of what launches kernels, where that is no part of this program: the driver. Else empty.
  public var driver: String
  /// Bytes of the largest cache.
  public var cacheByteCount: Int

  public init(target: String, model: String, driver: String, cacheByteCount: Int) {
    self.target = target
    self.model = model
    self.driver = driver
    self.cacheByteCount = cacheByteCount
  }
}

/// A ``TensorMap`` with its numbers: sizes, then strides, then where windows end.
public struct DeviceTensorMap {
  /// Bytes of an encoded map, which is aligned to 64.
  public static let byteCount = 128

  public var address: UnsafeMutableRawPointer?
  public var map: TensorMap
  public var numbers: UnsafePointer<Int64>
}

/// Loaded code. Functions stay valid as long as the image lives.
public protocol DeviceImage: AnyObject, Sendable {
  /// Finds a kernel.
  ///
  /// - Throws: ``DeviceError`` `APUS-D-0003` when the image has no such function.
  func function(_ function: KernelFunction) throws(DeviceError) -> DeviceFunction
}

/// A kernel of a loaded image.
public struct DeviceFunction: @unchecked Sendable {
  /// What the device knows it by: an entry address or a handle.
  public let handle: UnsafeMutableRawPointer
  /// Threads of a block, and bytes that they share.
  public let threads: Int
  public let sharedByteCount: Int
  /// Whether the kernel waits by itself for those in front, so that it may be started before they have ended.
  public let waits: Bool

  public init(handle: UnsafeMutableRawPointer, threads: Int = 1, sharedByteCount: Int = 0, waits: Bool = false) {
    self.handle = handle
    self.threads = threads
    self.sharedByteCount = sharedByteCount
    self.waits = waits
  }
}

/// One launch with everything resolved to addresses and numbers.
public struct DeviceLaunch {
  public var function: DeviceFunction
  /// Addresses in the order of the kernel's buffers.
  public var buffers: UnsafePointer<UnsafeMutableRawPointer?>
  public var bufferCount: Int
  /// Integer arguments.
  public var parameters: UnsafePointer<Int64>
  public var parameterCount: Int
  /// Encoded maps, one after the other; nil for none.
  public var maps: UnsafeRawPointer?
  /// Number of virtual blocks.
  public var blocks: Int
  /// Working memory; thread i uses the bytes from `i * scratchStride`.
  public var scratch: UnsafeMutableRawPointer?
  public var scratchStride: Int

  public init(
    function: DeviceFunction, buffers: UnsafePointer<UnsafeMutableRawPointer?>, bufferCount: Int,
    parameters: UnsafePointer<Int64>, parameterCount: Int, maps: UnsafeRawPointer? = nil, blocks: Int,
    scratch: UnsafeMutableRawPointer?, scratchStride: Int
  ) {
    self.maps = maps
    self.function = function
    self.buffers = buffers
    self.bufferCount = bufferCount
    self.parameters = parameters
    self.parameterCount = parameterCount
    self.blocks = blocks
    self.scratch = scratch
    self.scratchStride = scratchStride
  }
}

/// A library call that is ready for its sizes. Used by one thread at a time, on streams of the device that made it.
public protocol DeviceCall: AnyObject {}

/// Device memory that is given back when the value is released.
public final class DeviceBuffer: @unchecked Sendable {
  public let base: UnsafeMutableRawPointer
  public let byteCount: Int
  private let release: @Sendable (UnsafeMutableRawPointer) -> Void

  public init(
    base: UnsafeMutableRawPointer, byteCount: Int, release: @escaping @Sendable (UnsafeMutableRawPointer) -> Void
  ) {
    self.base = base
    self.byteCount = byteCount
    self.release = release
  }

  deinit { release(base) }
}
