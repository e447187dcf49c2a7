/// TIFF pictures in strips: grey, red green blue or with a palette, 1 to 16 bits, plain or packed by LZW, Deflate or PackBits.
struct TIFFFile {
  private let file: FileBytes
  /// Values of each tag.
  private var tags: [Int: [Int]] = [:]

  static func decode(_ bytes: FileBytes) throws(PictureFault) -> Picture { try TIFFFile(bytes).picture() }

  private init(_ bytes: FileBytes) throws(PictureFault) {
    var file = bytes
    file.isBigEndian = file.begins(with: [0x4D])
    self.file = file
    let start = try file.u32(4)
    for entry in 0..<(try file.u16(start)) {
      let at = start + 2 + 12 * entry
      let (tag, type, count) = (try file.u16(at), try file.u16(at + 2), try file.u32(at + 4))
      // Bytes, 16 and 32 bits: all that the tags used here can be.
      guard let size = [1: 1, 3: 2, 4: 4][type] else { continue }
      guard count > 0, count <= file.bytes.count / size else { throw .damaged }
      let place = count * size <= 4 ? at + 8 : try file.u32(at + 8)
      var values: [Int] = []
      for index in 0..<count {
        let position = place + index * size
        values.append(size == 1 ? Int(try file[position]) : size == 2 ? try file.u16(position) : try file.u32(position))
      }
      tags[tag] = values
    }
  }

  private func number(_ tag: Int, _ standard: Int? = nil) throws(PictureFault) -> Int {
    guard let value = tags[tag]?.first ?? standard else { throw .damaged }
    return value
  }

  private func picture() throws(PictureFault) -> Picture {
    if tags[324] != nil { throw .unsupported("a TIFF in tiles") }
    var picture = try Picture(width: number(256), height: number(257), in: file)
    let depths = tags[258] ?? [1]
    let (channels, depth) = (try number(277, 1), depths[0])
    let isPlanar = try number(284, 1) != 1 && channels > 1
    guard [1, 2, 4, 8, 16].contains(depth), depths.allSatisfy({ $0 == depth }), (1...64).contains(channels),
      try number(266, 1) == 1, !isPlanar
    else { throw .unsupported("a TIFF with samples of \(depths) bits, in planes or from the lowest bit") }
    let rowSize = (picture.width * channels * depth + 7) / 8
    let perStrip = min(try number(278, picture.height), picture.height)
    guard let offsets = tags[273], let counts = tags[279], offsets.count == counts.count, perStrip > 0 else {
      throw .damaged
    }
    for (strip, (offset, count)) in zip(offsets, counts).enumerated() {
      let lines = min(perStrip, picture.height - strip * perStrip)
      if lines <= 0 { break }
      var bytes = try expand(file.slice(offset, count), lines * rowSize)
      guard bytes.count >= lines * rowSize else { throw .damaged }
      if try number(317, 1) == 2 { try sum(&bytes, rowSize, channels, depth) }
      for line in 0..<lines {
        try set(bytes[(line * rowSize)..<((line + 1) * rowSize)], strip * perStrip + line, channels, depth, &picture)
      }
    }
    return picture
  }

  private func expand(_ strip: ArraySlice<UInt8>, _ byteCount: Int) throws(PictureFault) -> [UInt8] {
    switch try number(259, 1) {
    case 1: Array(strip)
    case 5: try LZW.expand(strip, byteCount: byteCount)
    case 8, 32946: try Deflate.expand(strip, byteCount: byteCount)
    case 32773: try Self.expandRuns(strip, byteCount)
    default: throw .unsupported("a TIFF with compression \(tags[259] ?? [])")
    }
  }

  /// PackBits: a count of bytes that follow, or of repetitions of one.
  private static func expandRuns(_ source: ArraySlice<UInt8>, _ byteCount: Int) throws(PictureFault) -> [UInt8] {
    var result: [UInt8] = []
    var position = source.startIndex
    while result.count < byteCount, position < source.endIndex {
      let code = Int(Int8(bitPattern: source[position]))
      let end = position + 1 + (code >= 0 ? code + 1 : 1)
      if code == -128 {
        position += 1
        continue
      }
      guard end <= source.endIndex else { throw .damaged }
      result +=
        code >= 0 ? Array(source[(position + 1)..<end]) : Array(repeating: source[position + 1], count: 1 - code)
      position = end
    }
    return result
  }

  /// Turns differences from the sample to the left into samples.
  private func sum(_ bytes: inout [UInt8], _ rowSize: Int, _ channels: Int, _ depth: Int) throws(PictureFault) {
    guard depth == 8 else { throw .unsupported("a TIFF with differences of \(depth) bits") }
    for row in stride(from: 0, to: bytes.count - rowSize + 1, by: rowSize) where rowSize > channels {
      for index in (row + channels)..<(row + rowSize) { bytes[index] &+= bytes[index - channels] }
    }
  }

  private func set(
    _ row: ArraySlice<UInt8>, _ y: Int, _ channels: Int, _ depth: Int, _ picture: inout Picture
  ) throws(PictureFault) {
    let kind = try number(262)
    let colors = tags[320] ?? []
    for x in 0..<picture.width {
      // The higher byte of 16 bits comes first or second.
      func sample(_ channel: Int) -> Int {
        if depth == 16, !file.isBigEndian { return Int(row[row.startIndex + 2 * (x * channels + channel) + 1]) }
        return packedSample(row, x * channels + channel, depth: depth)
      }
      switch kind {
      case 0, 1:
        let level = depth < 8 ? sample(0) * 255 / ((1 << depth) - 1) : sample(0)
        picture.set(x, y, grey: UInt8(kind == 0 ? 255 - level : level))
      case 2 where channels >= 3 && depth >= 8:
        picture.set(x, y, UInt8(sample(0)), UInt8(sample(1)), UInt8(sample(2)))
      case 3:
        let (entry, count) = (sample(0), colors.count / 3)
        guard entry < count else { throw .damaged }
        picture.set(
          x, y, UInt8(colors[entry] >> 8), UInt8(colors[count + entry] >> 8), UInt8(colors[2 * count + entry] >> 8))
      default: throw .unsupported("a TIFF of colour kind \(kind)")
      }
    }
  }
}
