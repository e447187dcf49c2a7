/// PNG pictures of every colour type and depth, interlaced or not; transparency is left out.
enum PNGFile {
  private struct Header {
    var width: Int
    var height: Int
    var depth: Int
    var color: Int
    var isInterlaced: Bool

    var channels: Int { [0: 1, 2: 3, 3: 1, 4: 2, 6: 4][color] ?? 1 }

    func rowSize(_ width: Int) -> Int { (width * channels * depth + 7) / 8 }
  }

  /// A reduced picture of an interlaced one: its first column and row, and the steps to the next.
  private struct Pass {
    var x: Int
    var y: Int
    var dx: Int
    var dy: Int

    func width(_ header: Header) -> Int { max(header.width - x + dx - 1, 0) / dx }
    func height(_ header: Header) -> Int { max(header.height - y + dy - 1, 0) / dy }
  }

  private static let interlaced = [
    Pass(x: 0, y: 0, dx: 8, dy: 8), Pass(x: 4, y: 0, dx: 8, dy: 8), Pass(x: 0, y: 4, dx: 4, dy: 8),
    Pass(x: 2, y: 0, dx: 4, dy: 4), Pass(x: 0, y: 2, dx: 2, dy: 4), Pass(x: 1, y: 0, dx: 2, dy: 2),
    Pass(x: 0, y: 1, dx: 1, dy: 2),
  ]

  static func decode(_ bytes: FileBytes) throws(PictureFault) -> Picture {
    var file = bytes
    file.isBigEndian = true
    let header = try header(file)
    var (palette, compressed): ([UInt8], [UInt8]) = ([], [])
    var offset = 8
    chunks: while true {
      let count = try file.u32(offset)
      let content = try file.slice(offset + 8, count)
      switch try Array(file.slice(offset + 4, 4)) {
      case Array("PLTE".utf8): palette = Array(content)
      case Array("IDAT".utf8): compressed += content
      case Array("IEND".utf8): break chunks
      default: break
      }
      offset += 12 + count
    }
    var picture = try Picture(width: header.width, height: header.height, in: file)
    let passes = (header.isInterlaced ? interlaced : [Pass(x: 0, y: 0, dx: 1, dy: 1)])
      .filter { $0.width(header) > 0 && $0.height(header) > 0 }
    let size = passes.reduce(0) { $0 + $1.height(header) * (1 + header.rowSize($1.width(header))) }
    let rows = try Deflate.expand(compressed[...], byteCount: size)
    guard rows.count == size else { throw .damaged }
    var position = 0
    for pass in passes { try read(pass, header, rows, &position, palette, into: &picture) }
    return picture
  }

  private static func header(_ file: FileBytes) throws(PictureFault) -> Header {
    let header = Header(
      width: try file.u32(16), height: try file.u32(20), depth: Int(try file[24]), color: Int(try file[25]),
      isInterlaced: try file[28] == 1)
    let depths = [0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16]][header.color]
    guard try file[28] <= 1, depths?.contains(header.depth) == true else { throw .damaged }
    return header
  }

  private static func read(
    _ pass: Pass, _ header: Header, _ rows: [UInt8], _ position: inout Int, _ palette: [UInt8],
    into picture: inout Picture
  ) throws(PictureFault) {
    let (width, rowSize) = (pass.width(header), header.rowSize(pass.width(header)))
    let reach = max(header.channels * header.depth / 8, 1)
    var above = [UInt8](repeating: 0, count: rowSize)
    for line in 0..<pass.height(header) {
      var row = Array(rows[(position + 1)..<(position + 1 + rowSize)])
      try unfilter(&row, above, rows[position], reach)
      position += 1 + rowSize
      above = row
      for column in 0..<width {
        let (x, y) = (pass.x + column * pass.dx, pass.y + line * pass.dy)
        func sample(_ channel: Int) -> Int {
          packedSample(row[...], column * header.channels + channel, depth: header.depth)
        }
        switch header.color {
        case 3: try picture.set(x, y, entry: sample(0), of: palette)
        case 0, 4:
          picture.set(x, y, grey: UInt8(header.depth < 8 ? sample(0) * 255 / ((1 << header.depth) - 1) : sample(0)))
        default: picture.set(x, y, UInt8(sample(0)), UInt8(sample(1)), UInt8(sample(2)))
        }
      }
    }
  }

  /// Adds what a row's bytes were predicted to be, from the bytes to the left, above and above left.
  private static func unfilter(
    _ row: inout [UInt8], _ above: [UInt8], _ filter: UInt8, _ reach: Int
  ) throws(PictureFault) {
    guard filter <= 4 else { throw .damaged }
    for index in row.indices {
      let left = index >= reach ? Int(row[index - reach]) : 0
      let up = Int(above[index])
      let corner = index >= reach ? Int(above[index - reach]) : 0
      let predicted =
        switch filter {
        case 1: left
        case 2: up
        case 3: (left + up) / 2
        case 4: nearest(left, up, corner)
        default: 0
        }
      row[index] &+= UInt8(predicted)
    }
  }

  /// The one of three that is nearest to left + up − corner.
  private static func nearest(_ left: Int, _ up: Int, _ corner: Int) -> Int {
    let distances = (abs(up - corner), abs(left - corner), abs(left + up - 2 * corner))
    if distances.0 <= distances.1, distances.0 <= distances.2 { return left }
    return distances.1 <= distances.2 ? up : corner
  }
}
