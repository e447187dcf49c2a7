import CZlib

/// Data that zlib has compressed.
enum Deflate {
  /// At most `byteCount` bytes of what was compressed.
  static func expand(_ source: ArraySlice<UInt8>, byteCount: Int) throws(PictureFault) -> [UInt8] {
    // Deflate cannot compress beyond 1032 : 1, which bounds what a damaged size can ask for.
    guard byteCount <= source.count * 1032 + 1032 else { throw .damaged }
    var result = [UInt8](repeating: 0, count: byteCount)
    var count = uLong(byteCount)
    let status = source.withUnsafeBufferPointer { source in
      result.withUnsafeMutableBufferPointer {
        uncompress($0.baseAddress, &count, source.baseAddress, uLong(source.count))
      }
    }
    guard status == Z_OK else { throw .damaged }
    return Array(result.prefix(Int(count)))
  }
}

/// Data compressed by the strings seen before, in codes of 9 to 12 bits, as TIFF writes it.
enum LZW {
  private static let clear = 256
  private static let end = 257

  static func expand(_ source: ArraySlice<UInt8>, byteCount: Int) throws(PictureFault) -> [UInt8] {
    var result: [UInt8] = []
    // What each code beyond the single bytes stands for, as a range of the result.
    var strings: [Range<Int>] = []
    var (bits, bitCount, width) = (0, 0, 9)
    var last: Range<Int>?
    for byte in source {
      bits = (bits << 8 | Int(byte)) & 0xFFFFFF
      bitCount += 8
      if bitCount < width { continue }
      bitCount -= width
      let code = bits >> bitCount & ((1 << width) - 1)
      if code == end || result.count >= byteCount { break }
      if code == clear {
        (strings, width, last) = ([], 9, nil)
        continue
      }
      let start = result.count
      if code < clear {
        result.append(UInt8(code))
      } else if code - 258 < strings.count {
        for index in strings[code - 258] { result.append(result[index]) }
      } else if let last, code - 258 == strings.count {
        for index in last.lowerBound...last.upperBound { result.append(result[index]) }
      } else {
        throw .damaged
      }
      // A string is the one before it and the first byte of this one, which follows it in the result.
      if let last { strings.append(last.lowerBound..<last.upperBound + 1) }
      last = start..<result.count
      if strings.count + 258 >= (1 << width) - 1, width < 12 { width += 1 }
    }
    return Array(result.prefix(byteCount))
  }
}
