package import ApusCore
package import ApusGraph

/// Decodes the file of a picture.
///
/// - Shapes: x `[n]`, the file's bytes → `[height, width, c]` with c = 3, or 1 where the format is `grayscale`; `height`
///   and `width` are symbols that the operation sets. A file that is no whole picture gives `[0, 0, c]`.
/// - Types: u8.
/// - Numerics: bitmaps, PNG, TIFF and portable any-maps exactly; JPEG, WebP and JPEG 2000 as libjpeg-turbo, libwebp and
///   OpenJPEG give them, which are opened when the first such file comes. Transparency is left out.
/// - Throws: ``EvaluationError`` `APUS-V-0212` where the kind of file is not decoded, or its library is not there.
/// - Source: ONNX ImageDecoder-20.
package struct ImageDecode: TensorOperation {
  package enum Format: String, CaseIterable, Sendable { case rgb, bgr, grayscale }

  package let format: Format
  package let height: Dim
  package let width: Dim

  package init(format: Format, height: Dim, width: Dim) {
    self.format = format
    self.height = height
    self.width = width
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    format = try attributes.choice("format")
    height = try attributes.dim("height")
    width = try attributes.dim("width")
  }

  package var name: String { "image_decode" }
  package var attributes: Attributes {
    ["format": .string(format.rawValue), "height": .dim(height), "width": .dim(width)]
  }
  package var boundSymbols: [Symbol] { Self.symbols([height, width]) }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expect(x[0].dtype == .u8 && x[0].rank == 1, x[0], operand: 0, is: "the bytes of a file, u8[n],")
    return [x[0].with(shape: [height, width, format == .grayscale ? 1 : 3])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let picture: Picture
    do { picture = try Picture(file: x[0].withUnsafeBytes { Array($0) }) } catch {
      if case .unsupported(let what) = error {
        throw evaluationError(
          "APUS-V-0212", "cannot decode \(what)", hint: "Decode the picture before the model, or give it as PNG.")
      }
      return [.empty(.u8, [0, 0, format == .grayscale ? 1 : 3])]
    }
    let (height, width) = (picture.height, picture.width)
    switch format {
    case .rgb: return [HostTensor(.u8, [height, width, 3], elements: picture.rgb)]
    case .bgr:
      var bytes = picture.rgb
      for pixel in 0..<width * height { bytes.swapAt(3 * pixel, 3 * pixel + 2) }
      return [HostTensor(.u8, [height, width, 3], elements: bytes)]
    case .grayscale: return [HostTensor(.u8, [height, width, 1], elements: picture.grey)]
    }
  }

  package static var samples: [Sample] {
    let size = (Dim(Symbol("H")), Dim(Symbol("W")))
    let file = Array("P6 2 2 255\n".utf8) + [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7]
    return Format.allCases.map { format in
      Sample(
        ImageDecode(format: format, height: size.0, width: size.1), "u8[\(file.count)]",
        constants: [0: HostTensor(.u8, [file.count], elements: file)])
    }
  }
}
