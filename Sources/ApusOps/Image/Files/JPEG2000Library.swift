#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// JPEG 2000 pictures, by OpenJPEG.
enum JPEG2000Library {
  private static let library = ImageLibrary("libopenjp2.so.7", package: "libopenjp2-7")

  private typealias Handle = UnsafeMutableRawPointer
  private typealias Make = @convention(c) (Int32) -> Handle?
  private typealias Free = @convention(c) (Handle?) -> Void
  private typealias SetUp = @convention(c) (Handle?, Handle?) -> Int32
  private typealias Finish = @convention(c) (Handle?, Handle?) -> Int32
  private typealias SetData = @convention(c) (Handle?, Handle?, Handle?) -> Void
  private typealias SetLength = @convention(c) (Handle?, UInt64) -> Void
  private typealias SetFunction = @convention(c) (Handle?, Handle?) -> Void
  private typealias ReadHeader = @convention(c) (Handle?, Handle?, UnsafeMutablePointer<Handle?>) -> Int32
  private typealias Decode = @convention(c) (Handle?, Handle?, Handle?) -> Int32

  /// What the library reads from: the callbacks below get a pointer to one.
  private struct Source {
    var bytes: UnsafeRawBufferPointer
    var position = 0

    mutating func move(to place: Int) -> Bool {
      guard (0...bytes.count).contains(place) else { return false }
      position = place
      return true
    }
  }

  private typealias Read = @convention(c) (Handle?, Int, Handle?) -> Int
  private static let read: Read = { target, count, user in
    guard let target, let source = user?.assumingMemoryBound(to: Source.self) else { return -1 }
    let part = min(count, source.pointee.bytes.count - source.pointee.position)
    guard part > 0, let base = source.pointee.bytes.baseAddress else { return -1 }
    target.copyMemory(from: base + source.pointee.position, byteCount: part)
    source.pointee.position += part
    return part
  }

  private typealias Skip = @convention(c) (Int64, Handle?) -> Int64
  private static let skip: Skip = { count, user in
    guard let source = user?.assumingMemoryBound(to: Source.self) else { return -1 }
    let (place, overflows) = source.pointee.position.addingReportingOverflow(Int(count))
    return !overflows && source.pointee.move(to: place) ? count : -1
  }

  private typealias Seek = @convention(c) (Int64, Handle?) -> Int32
  private static let seek: Seek = { place, user in
    guard let source = user?.assumingMemoryBound(to: Source.self) else { return 0 }
    return source.pointee.move(to: Int(place)) ? 1 : 0
  }

  /// Room for the library's decoding parameters, of which only the defaults are used.
  private static let parameterByteCount = 1 << 15

  static func decode(_ bytes: [UInt8]) throws(PictureFault) -> Picture {
    let result: Result<Picture, PictureFault> = bytes.withUnsafeBytes { content in
      Result { () throws(PictureFault) in try decode(content) }
    }
    return try result.get()
  }

  private static func decode(_ content: UnsafeRawBufferPointer) throws(PictureFault) -> Picture {
    // A bare code stream begins with its marker, else it is in a file of boxes.
    let codec = try library.function("opj_create_decompress", Make.self)(content.first == 0xFF ? 0 : 2)
    let freeCodec = try library.function("opj_destroy_codec", Free.self)
    defer { freeCodec(codec) }
    let parameters = UnsafeMutableRawPointer.allocate(byteCount: parameterByteCount, alignment: 16)
    defer { parameters.deallocate() }
    try library.function("opj_set_default_decoder_parameters", Free.self)(parameters)
    guard try library.function("opj_setup_decoder", SetUp.self)(codec, parameters) != 0 else { throw .damaged }

    let stream = try library.function("opj_stream_default_create", Make.self)(1)
    let freeStream = try library.function("opj_stream_destroy", Free.self)
    defer { freeStream(stream) }
    let source = UnsafeMutablePointer<Source>.allocate(capacity: 1)
    source.initialize(to: Source(bytes: content))
    defer { source.deallocate() }
    try library.function("opj_stream_set_user_data", SetData.self)(stream, source, nil)
    try library.function("opj_stream_set_user_data_length", SetLength.self)(stream, UInt64(content.count))
    let callbacks = [
      ("read", unsafeBitCast(read, to: Handle.self)), ("skip", unsafeBitCast(skip, to: Handle.self)),
      ("seek", unsafeBitCast(seek, to: Handle.self)),
    ]
    for (name, function) in callbacks {
      try library.function("opj_stream_set_\(name)_function", SetFunction.self)(stream, function)
    }

    var image: Handle?
    guard try library.function("opj_read_header", ReadHeader.self)(stream, codec, &image) != 0, let image else {
      throw .damaged
    }
    let freeImage = try library.function("opj_image_destroy", Free.self)
    defer { freeImage(image) }
    let components = try Self.components(image)
    var picture = try Picture(width: components[0].width, height: components[0].height)
    guard try library.function("opj_decode", Decode.self)(codec, stream, image) != 0,
      try library.function("opj_end_decompress", Finish.self)(codec, stream) != 0
    else { throw .damaged }
    let channels = try Self.components(image).map(\.samples)
    for y in 0..<picture.height {
      for x in 0..<picture.width {
        let at = y * picture.width + x
        picture.set(x, y, channels[0][at], channels[channels.count / 2][at], channels[channels.count - 1][at])
      }
    }
    return picture
  }

  /// A colour of the decoded picture: the library's `opj_image_comp`.
  private struct Component {
    let width: Int
    let height: Int
    private let depth: Int
    private let isSigned: Bool
    private let data: UnsafePointer<Int32>?

    static let byteCount = 64

    init(_ address: UnsafeRawPointer) {
      func field(_ index: Int) -> Int { Int(address.load(fromByteOffset: 4 * index, as: UInt32.self)) }
      (width, height, depth, isSigned) = (field(2), field(3), field(6), field(8) != 0)
      data = address.load(fromByteOffset: 48, as: UnsafePointer<Int32>?.self)
    }

    /// Samples in 8 bits; black where there are none.
    var samples: [UInt8] {
      guard let data else { return [UInt8](repeating: 0, count: width * height) }
      return (0..<width * height).map { index in
        let value = Int(data[index]) + (isSigned ? 1 << (depth - 1) : 0)
        return UInt8(clamping: depth > 8 ? value >> (depth - 8) : value << (8 - depth))
      }
    }

    func isLike(_ other: Component) -> Bool { width == other.width && height == other.height }
    var isPossible: Bool { (1...31).contains(depth) }
  }

  /// Blue differences and reds are told by this colour space.
  private static let blueDifferences: Int32 = 3

  /// The red, green and blue of a picture, or its only colour: the library's `opj_image`.
  private static func components(_ image: UnsafeRawPointer) throws(PictureFault) -> [Component] {
    let count = Int(image.load(fromByteOffset: 16, as: UInt32.self))
    let space = image.load(fromByteOffset: 20, as: Int32.self)
    guard let first = image.load(fromByteOffset: 24, as: UnsafeRawPointer?.self), count > 0 else { throw .damaged }
    let components = (0..<(count >= 3 ? 3 : 1)).map { Component(first + $0 * Component.byteCount) }
    guard components.allSatisfy({ $0.isLike(components[0]) && $0.isPossible }), space != blueDifferences else {
      throw .unsupported("a JPEG 2000 picture whose colours are of different sizes or differences")
    }
    return components
  }
}
