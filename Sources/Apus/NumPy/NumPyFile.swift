public import ApusCore

/// A `.npy` or `.npz` file is malformed or holds what is not supported (`APUS-N-…`).
public struct NumPyError: RoomError {
  public let problems: [Diagnostic]
  public init(problems: [Diagnostic]) { self.problems = problems }
}

/// Reads and writes one tensor as a NumPy `.npy` file.
public enum NumPyFile {
  /// Reads a file. Row-major little-endian elements are not copied: the tensor borrows the mapped file.
  ///
  /// - Types: all that NumPy has and we have; text becomes strings. Types that NumPy writes as opaque bytes (bf16, float8,
  ///   4-bit) are read as `expected` when the width fits.
  /// - Throws: ``NumPyError`` `APUS-N-0001` foreign file, `-0002` malformed, `-0003` element type, `-0004` size.
  public static func read(_ path: String, expecting expected: DType? = nil) throws(NumPyError) -> HostTensor {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch {
      throw NumPyError("APUS-N-0005", error.description)
    }
    do { return try read(file.bytes, owner: file, expecting: expected) } catch { throw error.at(path) }
  }

  /// Writes a tensor row-major and little-endian; text as UTF-32 of the longest element's length.
  public static func write(_ tensor: HostTensor, to path: String) throws(FileError) {
    if tensor.dtype == .string {
      let scalars = tensor.strings.map { Array($0.unicodeScalars) }
      let width = max(1, scalars.map(\.count).max() ?? 1)
      var bytes = NumPyHeader.bytes(tensor, textUnitCount: width)
      for text in scalars {
        for index in 0..<width {
          let value = index < text.count ? text[index].value : 0
          bytes.append(contentsOf: (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) })
        }
      }
      return try AtomicFile.write(bytes, to: path)
    }
    let header = NumPyHeader.bytes(tensor, textUnitCount: 0)
    let result = header.withUnsafeBytes { head in
      tensor.withUnsafeBytes { data in
        Result { () throws(FileError) in try AtomicFile.write([head, data], to: path) }
      }
    }
    try result.get()
  }
}

extension NumPyFile {
  /// Reads a file's bytes, which live as long as `owner`.
  static func read(
    _ bytes: UnsafeRawBufferPointer, owner: AnyObject, expecting expected: DType?
  ) throws(NumPyError) -> HostTensor {
    let header = try NumPyHeader(bytes)
    let count = header.shape.reduce(1, saturatingMultiply)
    // Sizes beside a 0, and text of width 0, take no bytes: the file's length does not bound them.
    let extent = header.shape.reduce(1) { saturatingMultiply($0, max($1, 1)) }
    if extent > 1 << 56 || (header.element.byteCount == 0 && count > 1 << 24) {
      throw NumPyError("APUS-N-0004", "shape \(header.shape) is too large")
    }
    let byteCount = saturatingMultiply(count, header.element.byteCount)
    let found = bytes.count - header.dataOffset
    if byteCount != found {
      throw NumPyError(
        "APUS-N-0004", "shape \(header.shape) needs \(byteCount) bytes of elements, the file holds \(found)",
        hint: "The file may be cut off; write it again.")
    }
    let data = UnsafeRawBufferPointer(rebasing: bytes[header.dataOffset...])
    let stored = header.isFortranOrder ? header.shape.reversed() : header.shape
    let tensor: HostTensor
    switch header.element {
    case .text(let unitCount, let unitByteCount):
      tensor = text(data, header, stored, unitCount: unitCount, unitByteCount: unitByteCount)
    case .number(let dtype): tensor = numbers(data, dtype, header, stored, owner)
    case .opaque(let width):
      guard let expected, expected.byteCount == width, expected != .string else {
        throw NumPyError(
          "APUS-N-0003", "the elements are opaque bytes of width \(width), which do not say what they are",
          hint: expected.map { "The model expects \($0), of width \($0.byteCount)." } ?? "")
      }
      tensor = numbers(data, expected, header, stored, owner)
    }
    return header.isFortranOrder ? transposed(tensor, to: header.shape) : tensor
  }

  private static func numbers(
    _ data: UnsafeRawBufferPointer, _ dtype: DType, _ header: NumPyHeader, _ shape: [Int], _ owner: AnyObject
  ) -> HostTensor {
    let width = dtype.byteCount
    guard let base = data.baseAddress else { return HostTensor(dtype, shape) }
    if header.isBigEndian && width > 1 {
      return HostTensor(dtype, shape) { target in
        for index in 0..<data.count { target[index] = data[index / width * width + (width - 1 - index % width)] }
      }
    }
    if UInt(bitPattern: base) % UInt(width) != 0 { return HostTensor(dtype, shape) { $0.copyMemory(from: data) } }
    return HostTensor(
      dtype: dtype, shape: shape, storage: HostStorage(borrowing: base, byteCount: data.count, owner: owner))
  }

  private static func text(
    _ data: UnsafeRawBufferPointer, _ header: NumPyHeader, _ shape: [Int], unitCount: Int, unitByteCount: Int
  ) -> HostTensor {
    let width = unitCount * unitByteCount
    let count = shape.reduce(1, saturatingMultiply)
    let strings = (0..<count).map { index in
      let element = UnsafeRawBufferPointer(rebasing: data[index * width..<(index + 1) * width])
      if unitByteCount == 1 {
        let end = element.lastIndex { $0 != 0 }.map { $0 + 1 } ?? 0
        return String(decoding: element[..<end], as: UTF8.self)
      }
      var units = (0..<unitCount).map { unit in
        let value = element.loadUnaligned(fromByteOffset: unit * 4, as: UInt32.self)
        return header.isBigEndian ? value.bigEndian : value.littleEndian
      }
      while units.last == 0 { units.removeLast() }
      return String(String.UnicodeScalarView(units.map { Unicode.Scalar($0) ?? "\u{FFFD}" }))
    }
    return HostTensor(strings: strings, shape: shape)
  }

  /// A column-major file holds the transposed tensor row by row.
  private static func transposed(_ tensor: HostTensor, to shape: [Int]) -> HostTensor {
    let strides = Array(tensor.strides.reversed())
    var indices: [Int] = [0]
    for (size, stride) in zip(shape, strides) {
      indices = indices.flatMap { base in (0..<size).map { base + $0 * stride } }
    }
    return tensor.gathering(indices, shape: shape)
  }
}
