#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A shared library that decodes one kind of picture, opened when the first of them is decoded.
struct ImageLibrary: @unchecked Sendable {
  private let handle: UnsafeMutableRawPointer?
  private let name: String
  private let package: String

  init(_ name: String, package: String) {
    self.name = name
    self.package = package
    handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)
  }

  /// A function of the library; the caller says what type it has.
  func function<Function>(_ symbol: String, _: Function.Type) throws(PictureFault) -> Function {
    guard let handle else { throw .unsupported("this file without \(name): install the package \(package)") }
    guard let address = dlsym(handle, symbol) else { throw .unsupported("this file: \(name) has no \(symbol)") }
    return unsafeBitCast(address, to: Function.self)
  }
}

/// JPEG pictures, by libjpeg-turbo.
enum JPEGLibrary {
  private static let library = ImageLibrary("libturbojpeg.so.0", package: "libturbojpeg0")

  private typealias Start = @convention(c) () -> UnsafeMutableRawPointer?
  private typealias End = @convention(c) (UnsafeMutableRawPointer?) -> Int32
  private typealias ReadHeader =
    @convention(c) (
      UnsafeMutableRawPointer?, UnsafePointer<UInt8>?, UInt, UnsafeMutablePointer<Int32>, UnsafeMutablePointer<Int32>,
      UnsafeMutablePointer<Int32>, UnsafeMutablePointer<Int32>
    ) -> Int32
  private typealias Decode =
    @convention(c) (
      UnsafeMutableRawPointer?, UnsafePointer<UInt8>?, UInt, UnsafeMutablePointer<UInt8>?, Int32, Int32, Int32, Int32,
      Int32
    ) -> Int32

  /// `TJPF_RGB` of its header.
  private static let redGreenBlue: Int32 = 0
  /// Spaces of four inks come after blue-difference, grey and plain colours.
  private static let firstOfInks: Int32 = 3

  static func decode(_ bytes: [UInt8]) throws(PictureFault) -> Picture {
    let start = try library.function("tjInitDecompress", Start.self)
    let end = try library.function("tjDestroy", End.self)
    let readHeader = try library.function("tjDecompressHeader3", ReadHeader.self)
    let decode = try library.function("tjDecompress2", Decode.self)
    guard let decoder = start() else { throw .damaged }
    defer { _ = end(decoder) }
    var (width, height, sampling, colors): (Int32, Int32, Int32, Int32) = (0, 0, 0, 0)
    guard readHeader(decoder, bytes, UInt(bytes.count), &width, &height, &sampling, &colors) == 0 else {
      throw .damaged
    }
    if colors >= firstOfInks { throw .unsupported("a JPEG of four inks") }
    var picture = try Picture(width: Int(width), height: Int(height))
    let status = decode(decoder, bytes, UInt(bytes.count), &picture.rgb, width, 3 * width, height, redGreenBlue, 0)
    guard status == 0 else { throw .damaged }
    return picture
  }
}

/// WebP pictures, by libwebp.
enum WebPLibrary {
  private static let library = ImageLibrary("libwebp.so.7", package: "libwebp7")

  private typealias ReadHeader =
    @convention(c) (
      UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<Int32>, UnsafeMutablePointer<Int32>
    ) -> Int32
  private typealias Decode =
    @convention(c) (
      UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<UInt8>?, Int, Int32
    ) -> UnsafeMutablePointer<UInt8>?

  static func decode(_ bytes: [UInt8]) throws(PictureFault) -> Picture {
    let readHeader = try library.function("WebPGetInfo", ReadHeader.self)
    let decode = try library.function("WebPDecodeRGBInto", Decode.self)
    var (width, height): (Int32, Int32) = (0, 0)
    guard readHeader(bytes, bytes.count, &width, &height) != 0 else { throw .damaged }
    var picture = try Picture(width: Int(width), height: Int(height))
    guard decode(bytes, bytes.count, &picture.rgb, picture.rgb.count, 3 * width) != nil else { throw .damaged }
    return picture
  }
}
