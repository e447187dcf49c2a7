import ApusCore

extension DType {
  /// An element of an integer or bool tensor in memory; one that is too large for `Int` becomes the nearest.
  func loadInteger(from base: UnsafeRawPointer, at index: Int) -> Int {
    func load<Number: FixedWidthInteger>(_ type: Number.Type) -> Int {
      Int(clamping: base.loadUnaligned(fromByteOffset: index * MemoryLayout<Number>.size, as: type))
    }
    return switch self {
    case .i64: load(Int64.self)
    case .u64: load(UInt64.self)
    case .i32: load(Int32.self)
    case .u32: load(UInt32.self)
    case .i16: load(Int16.self)
    case .u16: load(UInt16.self)
    case .i8, .i4, .i2: load(Int8.self)
    default: load(UInt8.self)
    }
  }
}
