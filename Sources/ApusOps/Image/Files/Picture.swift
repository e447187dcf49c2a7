/// Red, green and blue of every pixel in 8 bits, row by row from the top.
struct Picture: Equatable {
  let width: Int
  let height: Int
  var rgb: [UInt8]

  /// Largest number of pixels that a file may ask for, and that a byte of it may stand for: eight, compressed 1032 : 1.
  private static let pixelLimit = 1 << 28
  private static let pixelsPerByte = 8 * 1032

  /// A black picture, of a size that the file can hold where that can be told.
  init(width: Int, height: Int, in file: FileBytes? = nil) throws(PictureFault) {
    let limit = min(Self.pixelLimit, file.map { $0.bytes.count * Self.pixelsPerByte } ?? .max)
    guard width > 0, height > 0, width <= limit / height else { throw .damaged }
    self.width = width
    self.height = height
    rgb = [UInt8](repeating: 0, count: 3 * width * height)
  }

  /// Decodes a file by what its first bytes say it is.
  init(file: [UInt8]) throws(PictureFault) {
    let file = FileBytes(file)
    if file.begins(with: [0x42, 0x4D]) {
      self = try BitmapFile.decode(file)
    } else if file.begins(with: [0x89, 0x50, 0x4E, 0x47]) {
      self = try PNGFile.decode(file)
    } else if file.begins(with: [0x49, 0x49, 0x2A, 0]) || file.begins(with: [0x4D, 0x4D, 0, 0x2A]) {
      self = try TIFFFile.decode(file)
    } else if file.begins(with: [0xFF, 0xD8, 0xFF]) {
      self = try JPEGLibrary.decode(file.bytes)
    } else if file.begins(with: [0x52, 0x49, 0x46, 0x46]) {
      self = try WebPLibrary.decode(file.bytes)
    } else if file.begins(with: [0, 0, 0, 0x0C, 0x6A, 0x50]) || file.begins(with: [0xFF, 0x4F, 0xFF, 0x51]) {
      self = try JPEG2000Library.decode(file.bytes)
    } else if file.begins(with: [0x50]) {
      self = try PortableFile.decode(file)
    } else {
      throw .damaged
    }
  }

  /// Sets the pixel at a column and row.
  mutating func set(_ x: Int, _ y: Int, _ red: UInt8, _ green: UInt8, _ blue: UInt8) {
    let at = 3 * (y * width + x)
    (rgb[at], rgb[at + 1], rgb[at + 2]) = (red, green, blue)
  }

  mutating func set(_ x: Int, _ y: Int, grey: UInt8) { set(x, y, grey, grey, grey) }

  /// Sets a pixel to an entry of a palette of red, green and blue.
  mutating func set(_ x: Int, _ y: Int, entry: Int, of palette: [UInt8]) throws(PictureFault) {
    guard 3 * entry + 2 < palette.count else { throw .damaged }
    set(x, y, palette[3 * entry], palette[3 * entry + 1], palette[3 * entry + 2])
  }

  /// Brightness of each pixel, by the weights of ITU-R 601.
  var grey: [UInt8] {
    (0..<width * height).map { pixel in
      let (red, green, blue) = (Int(rgb[3 * pixel]), Int(rgb[3 * pixel + 1]), Int(rgb[3 * pixel + 2]))
      return UInt8((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16)
    }
  }
}

/// Why a file gives no picture.
enum PictureFault: Error, Equatable {
  /// It is no picture, or not a whole one.
  case damaged
  /// It is a picture of a kind that is not decoded: what that needs, in words.
  case unsupported(String)
}

/// Bytes of a file that says where to read: every access is checked.
struct FileBytes {
  let bytes: [UInt8]
  var isBigEndian = false

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func begins(with mark: [UInt8]) -> Bool { bytes.starts(with: mark) }

  subscript(_ offset: Int) -> UInt8 {
    get throws(PictureFault) {
      guard bytes.indices.contains(offset) else { throw .damaged }
      return bytes[offset]
    }
  }

  func slice(_ offset: Int, _ count: Int) throws(PictureFault) -> ArraySlice<UInt8> {
    guard offset >= 0, count >= 0, offset <= bytes.count, count <= bytes.count - offset else { throw .damaged }
    return bytes[offset..<offset + count]
  }

  func u16(_ offset: Int) throws(PictureFault) -> Int { try number(offset, 2) }
  func u32(_ offset: Int) throws(PictureFault) -> Int { try number(offset, 4) }
  func i32(_ offset: Int) throws(PictureFault) -> Int { Int(Int32(truncatingIfNeeded: try number(offset, 4))) }

  private func number(_ offset: Int, _ count: Int) throws(PictureFault) -> Int {
    let part = try slice(offset, count)
    return isBigEndian ? part.reduce(0) { $0 << 8 | Int($1) } : part.reversed().reduce(0) { $0 << 8 | Int($1) }
  }
}

/// The `index`th of the samples of `depth` bits (1, 2, 4, 8, 16) that a row holds; of 16 the higher eight.
func packedSample(_ row: ArraySlice<UInt8>, _ index: Int, depth: Int) -> Int {
  if depth >= 8 { return Int(row[row.startIndex + index * (depth / 8)]) }
  let bit = index * depth
  return Int(row[row.startIndex + bit / 8]) >> (8 - depth - bit % 8) & ((1 << depth) - 1)
}
