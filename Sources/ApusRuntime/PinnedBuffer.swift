public import ApusCore

/// Memory of the host that a device reads and writes by itself, so that copies go on while the host does something else.
/// Given back when the value is released.
///
/// The bytes may be written while no run that is queued reads them, and read once the runs that write them are done.
public final class PinnedBuffer: @unchecked Sendable {
  public let bytes: UnsafeMutableRawBufferPointer
  private let release: @Sendable (UnsafeMutableRawBufferPointer) -> Void

  public init(
    bytes: UnsafeMutableRawBufferPointer, release: @escaping @Sendable (UnsafeMutableRawBufferPointer) -> Void
  ) {
    self.bytes = bytes
    self.release = release
  }

  deinit { release(bytes) }

  /// Ordinary memory, for devices that need no other; the content is undefined.
  static func ordinary(byteCount: Int) -> PinnedBuffer {
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: max(byteCount, 64), alignment: 64)
    return PinnedBuffer(bytes: UnsafeMutableRawBufferPointer(rebasing: bytes[..<byteCount])) { $0.deallocate() }
  }

  /// The first elements as a tensor of its own.
  ///
  /// - Throws: ``RunError`` `APUS-R-0011` when there are fewer bytes than the tensor has.
  public func read(as dtype: DType, _ shape: [Int]) throws(RunError) -> HostTensor {
    let byteCount = shape.reduce(dtype.byteCount, saturatingMultiply)
    if byteCount > bytes.count { throw RunError.smallMemory("the buffer", found: bytes.count, needed: byteCount) }
    let source = UnsafeRawBufferPointer(rebasing: bytes[..<byteCount])
    return HostTensor(dtype, shape) { $0.copyMemory(from: source) }
  }
}

extension Engine {
  /// Memory of the host that copies to and from the engine's device go through directly; its content is undefined.
  ///
  /// - Throws: ``RunError`` when there is not enough memory that can be pinned.
  public func makePinnedBuffer(byteCount: Int) throws(RunError) -> PinnedBuffer {
    do { return try device.allocatePinned(byteCount: byteCount) } catch { throw RunError(device: error) }
  }

  /// The same with the bytes of a tensor.
  public func makePinnedBuffer(_ tensor: HostTensor) throws(RunError) -> PinnedBuffer {
    let buffer = try makePinnedBuffer(byteCount: tensor.byteCount)
    tensor.withUnsafeBytes { buffer.bytes.copyMemory(from: $0) }
    return buffer
  }
}

extension ExecutionContext {
  /// Binds an input to pinned memory: runs that are queued read it while the device works.
  ///
  /// - Throws: ``RunError`` as ``bind(input:to:shape:)``.
  public func bind(input name: String, to buffer: PinnedBuffer, shape: [Int]) throws(RunError) {
    try bind(input: name, to: UnsafeRawBufferPointer(buffer.bytes), shape: shape)
    state.bindings.inputs[try state.bindings.requireInput(name)].owner = buffer
  }

  /// Binds an output to pinned memory: runs that are queued write it while the host does something else.
  public func bind(output name: String, to buffer: PinnedBuffer) throws(RunError) {
    try bind(output: name, to: buffer.bytes)
    state.bindings.outputs[try state.bindings.requireOutput(name)].owner = buffer
  }
}
