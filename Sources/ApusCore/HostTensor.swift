#if canImport(Glibc)
  import Glibc
#endif

/// Bytes that tensors share: allocated here, or borrowed from a mapping that `owner` keeps alive.
///
/// Written only by whoever makes it, before it is shared; immutable afterwards.
package final class HostStorage: @unchecked Sendable {
  package let base: UnsafeMutableRawPointer
  package let byteCount: Int
  private let owner: AnyObject?

  /// Allocates uninitialised bytes, 64-byte aligned.
  package init(byteCount: Int) {
    self.byteCount = byteCount
    let isLarge = byteCount >= 2 * Self.hugePage
    base = .allocate(byteCount: max(byteCount, 1), alignment: isLarge ? Self.hugePage : 64)
    owner = nil
    #if canImport(Glibc)
      // Gigabytes of weights are touched page by page: larger pages make that a fraction of the time.
      if isLarge { madvise(base, byteCount, MADV_HUGEPAGE) }
    #endif
  }

  private static let hugePage = 2 << 20

  /// Whether the bytes are those of a mapping.
  package var isBorrowed: Bool { owner != nil }

  /// Borrows bytes that stay valid as long as `owner` lives and are never written.
  package init(borrowing base: UnsafeRawPointer, byteCount: Int, owner: AnyObject) {
    self.base = UnsafeMutableRawPointer(mutating: base)
    self.byteCount = byteCount
    self.owner = owner
  }

  deinit { if owner == nil { base.deallocate() } }
}

/// A dense row-major tensor in host memory. Value semantics: bytes are not changed once the tensor is made.
///
/// Sub-byte types keep one element per byte. Strings are kept beside the bytes.
public struct HostTensor: Sendable {
  public let dtype: DType
  public let shape: [Int]
  package let storage: HostStorage
  package let byteOffset: Int
  /// The elements when `dtype` is `string`, else empty.
  public let strings: [String]

  public var elementCount: Int { shape.reduce(1, saturatingMultiply) }
  public var byteCount: Int { elementCount * dtype.byteCount }
  public var rank: Int { shape.count }
  public var type: TensorType { TensorType(dtype, sizes: shape) }

  package init(dtype: DType, shape: [Int], storage: HostStorage, byteOffset: Int = 0, strings: [String] = []) {
    self.dtype = dtype
    self.shape = shape
    self.storage = storage
    self.byteOffset = byteOffset
    self.strings = strings
  }

  /// Makes a tensor whose bytes `fill` writes; the bytes start as zero.
  public init(_ dtype: DType, _ shape: [Int], fill: (UnsafeMutableRawBufferPointer) -> Void = { _ in }) {
    let byteCount = saturatingMultiply(shape.reduce(1, saturatingMultiply), dtype.byteCount)
    let storage = HostStorage(byteCount: byteCount)
    let bytes = UnsafeMutableRawBufferPointer(start: storage.base, count: byteCount)
    _ = bytes.initializeMemory(as: UInt8.self, repeating: 0)
    fill(bytes)
    self.init(dtype: dtype, shape: shape, storage: storage)
  }

  public init(strings: [String], shape: [Int]) {
    self.init(dtype: .string, shape: shape, storage: HostStorage(byteCount: 0), strings: strings)
  }

  /// Copies `elements`, whose size must be the dtype's (`Float` for f32, `Int64` for i64, …).
  public init<Element: BitwiseCopyable>(_ dtype: DType, _ shape: [Int], elements: [Element]) {
    precondition(
      MemoryLayout<Element>.stride == dtype.byteCount && elements.count == shape.reduce(1, saturatingMultiply))
    self.init(dtype, shape) { bytes in elements.withUnsafeBytes { bytes.copyMemory(from: $0) } }
  }

  /// The same elements under another shape of equal element count.
  public func reshaped(_ shape: [Int]) -> HostTensor {
    precondition(shape.reduce(1, saturatingMultiply) == elementCount)
    return HostTensor(dtype: dtype, shape: shape, storage: storage, byteOffset: byteOffset, strings: strings)
  }

  /// The same bytes read as another dtype of equal width.
  package func reinterpreted(as dtype: DType) -> HostTensor {
    precondition(dtype.byteCount == self.dtype.byteCount)
    return HostTensor(dtype: dtype, shape: shape, storage: storage, byteOffset: byteOffset)
  }

  public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
    body(UnsafeRawBufferPointer(start: storage.base + byteOffset, count: byteCount))
  }

  /// The elements copied as `Element`, whose size must be the dtype's.
  public func elements<Element: BitwiseCopyable>(as type: Element.Type) -> [Element] {
    precondition(MemoryLayout<Element>.stride == dtype.byteCount)
    return withUnsafeBytes { bytes in
      [Element](unsafeUninitializedCapacity: elementCount) { buffer, count in
        UnsafeMutableRawBufferPointer(buffer).copyMemory(from: bytes)
        count = elementCount
      }
    }
  }
}

/// A value at run time: a tensor or one of ONNX's containers.
public indirect enum HostValue: Sendable {
  case tensor(HostTensor)
  case sequence([HostValue], element: ValueType)
  case optional(HostValue?, element: ValueType)

  public var tensor: HostTensor? {
    if case .tensor(let tensor) = self { tensor } else { nil }
  }

  public var type: ValueType {
    switch self {
    case .tensor(let tensor): .tensor(tensor.type)
    case .sequence(_, let element): .sequence(element)
    case .optional(_, let element): .optional(element)
    }
  }
}
