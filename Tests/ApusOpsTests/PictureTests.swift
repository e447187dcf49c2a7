import ApusCore
import ApusGraph
import ApusOps
import Foundation
import TestSupport
import Testing

/// Files of pictures decode to the pixels that another decoder finds in them.
@Suite struct PictureTests {
  private struct Case: CustomTestStringConvertible {
    let name: String
    let file: [UInt8]
    let pixels: [UInt8]
    var testDescription: String { name }
  }

  /// `name|file|red green blue` in base 64: pictures of 7 by 5 pixels.
  private static let cases: [Case] = {
    guard let text = try? Repository.text("Cases/pictures.txt") else { return [] }
    return text.split(separator: "\n").map { line in
      let parts = line.split(separator: "|").map(String.init)
      return Case(name: parts[0], file: bytes(parts[1]), pixels: bytes(parts[2]))
    }
  }()

  private static func bytes(_ text: String) -> [UInt8] { [UInt8](Data(base64Encoded: text) ?? Data()) }

  private func decode(_ file: [UInt8], _ format: ImageDecode.Format = .rgb) throws(EvaluationError) -> HostTensor {
    let op = ImageDecode(format: format, height: Dim(Symbol("h")), width: Dim(Symbol("w")))
    return try op.reference([HostTensor(.u8, [file.count], elements: file)])[0]
  }

  @Test(arguments: cases) private func pixelsAreRight(_ test: Case) throws {
    let result: HostTensor
    do { result = try decode(test.file) } catch {
      // Libraries may be missing where nothing was installed, and then this is what must be said.
      #expect(error.problems[0].code == "APUS-V-0212" && error.problems[0].message.contains("install the package lib"))
      return
    }
    #expect(result.shape == [5, 7, 3])
    #expect(result.ints.map { UInt8($0) } == test.pixels)
  }

  @Test func formatsOrderAndWeighColours() throws {
    let file = Array("P6 1 1 255\n".utf8) + [200, 100, 50]
    #expect(try decode(file, .bgr).ints == [50, 100, 200])
    let grey = try decode(file, .grayscale)
    #expect(grey.shape == [1, 1, 1] && grey.ints == [124])
  }

  /// As the operator set wants it, what is no whole picture gives an empty one; nothing traps on any beginning of a file, nor
  /// where a byte of its head is another.
  @Test(arguments: cases) private func damagedFilesGiveNothing(_ test: Case) throws {
    #expect(try decode([]).shape == [0, 0, 3] && decode(Array("no picture".utf8), .grayscale).shape == [0, 0, 1])
    for count in 0..<test.file.count { _ = try? decode(Array(test.file.prefix(count))) }
    for place in 0..<min(test.file.count, 120) {
      for value in [0, 1, 0x7F, 0xFF] as [UInt8] {
        var file = test.file
        file[place] = value
        _ = try? decode(file)
      }
    }
  }

  @Test func kindsThatAreNotDecodedAreNamed() throws {
    let bitmap = try #require(Self.cases.first { $0.name == "bmp 24" })
    var packed = bitmap.file
    packed[30] = 1
    let error = #expect(throws: EvaluationError.self) { try decode(packed) }
    let problem = try #require(error?.problems.first)
    #expect(problem.code == "APUS-V-0212" && problem.message.contains("a compressed bitmap") && !problem.hint.isEmpty)
  }
}
