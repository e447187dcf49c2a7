import ApusPlan
import TestSupport
import Testing

/// Engine files that are damaged or of another program, through the command line.
@Suite struct EngineFileTests {
  @Test func damagedEnginesAreRefused() throws {
    let place = try Workplace()
    try place.build(ONNXModel.product, "good")
    let good = try place.read("good.apus")
    var flipped = good
    flipped[good.count / 2] ^= 0x20
    var future = good
    future[4] = UInt8(EngineFile.format + 1)
    let cases: [(name: String, bytes: [UInt8], texts: [String])] = [
      ("cut", Array(good.dropLast(9)), ["APUS-E-0004", "byte \(good.count - 9)", "\(good.count) are expected"]),
      ("cut-in-header", Array(good.prefix(40)), ["APUS-E-0004"]),
      ("long", good + [0], ["APUS-E-0004"]),
      ("flipped", flipped, ["APUS-E-000"]),
      ("future", future, ["APUS-E-0003", "format \(EngineFile.format + 1)"]),
      ("empty", [], ["the file is empty"]),
      ("foreign", Array("GIF89a".utf8) + [UInt8](repeating: 7, count: 100), ["no known model format"]),
    ]
    for test in cases {
      try place.write(test.bytes, "\(test.name).apus")
      for command in ["run", "inspect", "bench"] {
        try place.refuses(command, "\(test.name).apus", saying: test.texts + ["\(test.name).apus"])
      }
    }
  }
}
