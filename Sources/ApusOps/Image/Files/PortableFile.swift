/// Portable any-maps: bit maps, grey maps and pixel maps, plain and raw (`P1` to `P6`).
enum PortableFile {
  static func decode(_ file: FileBytes) throws(PictureFault) -> Picture {
    let kind = Int(try file[1]) - 0x30
    guard (1...6).contains(kind) else { throw .damaged }
    var position = 2
    let (width, height) = (try number(file, &position), try number(file, &position))
    let isBitMap = kind == 1 || kind == 4
    let most = isBitMap ? 1 : try number(file, &position)
    guard (1...65535).contains(most) else { throw .damaged }
    var picture = try Picture(width: width, height: height, in: file)
    let channels = kind == 3 || kind == 6 ? 3 : 1
    // One white space ends the header of a raw file.
    position += 1
    let depth = isBitMap ? 1 : most < 256 ? 8 : 16
    let rowSize = (width * channels * depth + 7) / 8
    for y in 0..<height {
      let row = kind > 3 ? try file.slice(position + y * rowSize, rowSize) : []
      for x in 0..<width {
        var pixel: [UInt8] = []
        for channel in 0..<channels {
          let sample: Int
          if kind > 3 {
            sample = self.sample(row, x * channels + channel, depth)
          } else {
            sample = isBitMap ? try bit(file, &position) : try number(file, &position)
          }
          let level = min(sample, most) * 255 / most
          pixel.append(UInt8(isBitMap ? 255 - level : level))
        }
        picture.set(x, y, pixel[0], pixel[channels / 2], pixel[channels - 1])
      }
    }
    return picture
  }

  private static func sample(_ row: ArraySlice<UInt8>, _ index: Int, _ depth: Int) -> Int {
    if depth < 16 { return packedSample(row, index, depth: depth) }
    let at = row.startIndex + 2 * index
    return Int(row[at]) << 8 | Int(row[at + 1])
  }

  /// Skips white space and comments.
  private static func skip(_ file: FileBytes, _ position: inout Int) throws(PictureFault) {
    while true {
      switch try file[position] {
      case 0x23: while try file[position] != 0x0A { position += 1 }
      case 0x20, 0x09...0x0D: position += 1
      default: return
      }
    }
  }

  private static func bit(_ file: FileBytes, _ position: inout Int) throws(PictureFault) -> Int {
    try skip(file, &position)
    defer { position += 1 }
    return Int(try file[position] & 1)
  }

  private static func number(_ file: FileBytes, _ position: inout Int) throws(PictureFault) -> Int {
    try skip(file, &position)
    var value = 0
    let start = position
    while position < file.bytes.count, (0x30...0x39).contains(file.bytes[position]), position - start < 9 {
      value = 10 * value + Int(file.bytes[position]) - 0x30
      position += 1
    }
    guard position > start else { throw .damaged }
    return value
  }
}
