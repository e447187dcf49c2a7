/// Windows bitmaps without compression: 1, 4 or 8 bits with a palette, 16, 24 or 32 bits.
enum BitmapFile {
  static func decode(_ file: FileBytes) throws(PictureFault) -> Picture {
    let headerSize = try file.u32(14)
    // The first form of the header has sizes of 16 bits and palette entries of three bytes.
    let isFirst = headerSize == 12
    let width = isFirst ? try file.u16(18) : try file.i32(18)
    let height = isFirst ? try file.u16(20) : try file.i32(22)
    let depth = isFirst ? try file.u16(24) : try file.u16(28)
    let compression = isFirst ? 0 : try file.u32(30)
    guard compression == 0 || compression == 3 else { throw .unsupported("a compressed bitmap") }
    var picture = try Picture(width: width, height: abs(height), in: file)
    let stride = (picture.width * depth + 31) / 32 * 4
    let start = try file.u32(10)
    let masks = try masks(file, depth, hasOwn: compression == 3)
    let palette = depth <= 8 ? try palette(file, 14 + headerSize, until: start, entrySize: isFirst ? 3 : 4) : []
    for line in 0..<picture.height {
      let y = height < 0 ? line : picture.height - 1 - line
      let row = try file.slice(start + line * stride, stride)
      let first = row.startIndex
      for x in 0..<picture.width {
        switch depth {
        case 1, 4, 8: try picture.set(x, y, entry: packedSample(row, x, depth: depth), of: palette)
        case 24:
          picture.set(x, y, row[first + 3 * x + 2], row[first + 3 * x + 1], row[first + 3 * x])
        case 16, 32:
          let byteCount = depth / 8
          let pixel = row[(first + x * byteCount)..<(first + (x + 1) * byteCount)].reversed()
            .reduce(0) { $0 << 8 | Int($1) }
          picture.set(x, y, part(pixel, masks[0]), part(pixel, masks[1]), part(pixel, masks[2]))
        default: throw .damaged
        }
      }
    }
    return picture
  }

  private static func palette(
    _ file: FileBytes, _ offset: Int, until end: Int, entrySize: Int
  ) throws(PictureFault) -> [UInt8] {
    let entries = try file.slice(offset, min(max(end - offset, 0) / entrySize, 256) * entrySize)
    var palette: [UInt8] = []
    for entry in stride(from: entries.startIndex, to: entries.endIndex, by: entrySize) {
      palette += [entries[entry + 2], entries[entry + 1], entries[entry]]
    }
    return palette
  }

  /// Which bits of a pixel are red, green and blue.
  private static func masks(_ file: FileBytes, _ depth: Int, hasOwn: Bool) throws(PictureFault) -> [Int] {
    if hasOwn { return [try file.u32(54), try file.u32(58), try file.u32(62)] }
    return depth == 16 ? [0x7C00, 0x03E0, 0x001F] : [0xFF0000, 0x00FF00, 0x0000FF]
  }

  private static func part(_ pixel: Int, _ mask: Int) -> UInt8 {
    if mask == 0 { return 0 }
    let shift = mask.trailingZeroBitCount
    return UInt8((pixel & mask) >> shift * 255 / (mask >> shift))
  }
}
