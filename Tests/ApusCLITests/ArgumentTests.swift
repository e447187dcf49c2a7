import Apus
import ApusCore
import ApusPlan
import Testing

@testable import ApusCLI

@Suite struct ShapeArgumentTests {
  private let inputs: [(name: String, type: ValueType)] = [
    ("images", .tensor(TensorType(.f32, [Dim(Symbol("N")), 3, Dim(Symbol("H", Interval(32, 640)))]))),
    ("a=b", .tensor(TensorType(.i64, []))),
    ("list", .sequence(.tensor(TensorType(.f32, [])))),
  ]

  @Test func namesMayHoldEqualSigns() throws {
    let shapes = try ShapeArguments(["images=2x3x64", "a=b="], inputs: inputs)
    #expect(shapes["images"] == [2, 3, 64])
    #expect(shapes["a=b"] == [])
    #expect(shapes["other"] == nil)
  }

  @Test func allMistakesAreReportedTogether() {
    let arguments = [
      "images", "image=1x3x64", "images=1x4x64", "images=1x3", "images=1x3x9", "images=1x3x-4", "list=1", "=1",
      "images=1xx2", "images=1x3x99999999999999999999",
    ]
    let error = #expect(throws: UsageError.self) { try ShapeArguments(arguments, inputs: inputs) }
    let codes = error?.problems.map(\.code)
    #expect(
      codes == [
        "APUS-C-0001", "APUS-C-0002", "APUS-C-0005", "APUS-C-0004", "APUS-C-0003", "APUS-C-0005", "APUS-C-0003",
        "APUS-C-0001", "APUS-C-0004", "APUS-C-0001", "APUS-C-0001", "APUS-C-0001",
      ])
    #expect(error?.problems[1].hint == "Did you mean 'images'?")
  }

  @Test func rankIsChecked() {
    let error = #expect(throws: UsageError.self) { try ShapeArguments(["images=1x3"], inputs: inputs) }
    #expect(error?.problems.map(\.code) == ["APUS-C-0004"])
  }
}

@Suite struct ProfileArgumentTests {
  private let symbols = [Symbol("seq", Interval(0, 1024)), Symbol("batch")]
  private let inputs: [(name: String, type: ValueType)] = [
    ("ids", .tensor(TensorType(.i64, [Dim(Symbol("batch")), Dim(Symbol("seq", Interval(0, 1024))), 4]))),
    ("mask", .tensor(TensorType(.i64, [Dim(Symbol("seq", Interval(0, 1024)))]))),
  ]

  private func parse(_ arguments: String...) throws(UsageError) -> [Profile] {
    try ProfileArguments.parse(.texts(arguments), symbols: symbols, inputs: inputs)
  }

  @Test func ranges() throws {
    let profiles = try parse("decode: seq=1", "prefill: seq=1..512@256, batch=2..4", "seq=8")
    #expect(profiles.map(\.name) == ["decode", "prefill", "profile2"])
    #expect(profiles[0].ranges == [.init(symbol: "seq", min: 1, opt: 1, max: 1)])
    #expect(
      profiles[1].ranges == [
        .init(symbol: "seq", min: 1, opt: 256, max: 512), .init(symbol: "batch", min: 2, opt: 3, max: 4),
      ])
  }

  @Test func sizesToFillUpTo() throws {
    let profiles = try parse("serve: batch=1/2/4/8", "other: batch=2/4@2, seq=1")
    #expect(profiles[0].ranges == [.init(symbol: "batch", min: 1, opt: 8, max: 8, steps: [1, 2, 4, 8])])
    #expect(profiles[1].ranges[0] == .init(symbol: "batch", min: 1, opt: 2, max: 4, steps: [2, 4]))
    #expect(profiles.map { $0.ranges[0].sizesText } == ["1/2/4/8@8", "2/4@2"])
  }

  @Test(arguments: [
    ("a: batch=1//2", "APUS-C-0010"), ("a: batch=1/2@", "APUS-C-0010"), ("a: ids=1/2x4x4", "APUS-C-0010"),
    ("a: seq", "APUS-C-0010"), ("a:", "APUS-C-0010"), ("a: seq=x", "APUS-C-0010"), ("a: seq=1..2@", "APUS-C-0010"),
    ("a: sq=1", "APUS-C-0011"), ("a: seq=1, seq=2", "APUS-C-0017"), ("a: seq=1..2048", "APUS-C-0012"),
    ("a: ids=1x1", "APUS-C-0010"), ("a: ids=1x1x5", "APUS-C-0012"), ("a: idz=1x1x4", "APUS-C-0011"),
    ("a: ids=1x2x4, mask=3", "APUS-C-0017"), ("a: seq=4..2@3", "APUS-C-0012"),
    ("a: seq=-9223372036854775807..9223372036854775807", "APUS-C-0012"), ("a: seq=1..4@9", "APUS-C-0012"),
    ("a: seq=-1..4@2", "APUS-C-0012"),
  ])
  func mistakes(argument: String, code: String) {
    let error = #expect(throws: UsageError.self) { try parse(argument) }
    #expect(error?.problems.map(\.code) == [code])
  }

  /// Rule D1: a shape and a profile of one input exclude each other.
  @Test func d1_aShapeAndAProfileOfOneInputAreAMistake() {
    let error = #expect(throws: UsageError.self) {
      try ProfileArguments.parse(.texts(["a: mask=3"]), symbols: symbols, inputs: inputs, fixed: ["mask"])
    }
    #expect(error?.problems.map { "\($0.code) \($0.place)" } == ["APUS-C-0018 --profile \"a: mask=3\""])
    #expect(throws: Never.self) {
      try ProfileArguments.parse(.texts(["a: seq=3"]), symbols: symbols, inputs: inputs, fixed: ["other"])
    }
  }

  /// Rules D4, D5 and D10: an entry is whole, made of integers, and holds nothing else.
  @Test(arguments: [
    "mask=1..", "mask=..4", "mask=", "=1", "mask=@2", "mask=1.5", "mask=true", "mask=1..2x3", "mask=1..4@2@3",
    "mask=1..2..3", "mask=1..4@1x2", "mask 3",
  ])
  func d4_d5_d10_aMalformedEntryIsNamed(entry: String) {
    let error = #expect(throws: UsageError.self) { try parse("a: seq=1, \(entry)") }
    #expect(error?.problems.map(\.code) == ["APUS-C-0010"])
    #expect(error?.problems.first?.message.contains("'\(entry)'") == true)
    #expect(error?.problems.first?.place.contains("a: seq=1, \(entry)") == true)
  }

  // MARK: Elements that decide sizes

  private func values(_ arguments: String...) throws -> ProfileSet? {
    try ProfileArguments.values(.texts(arguments)) {
      [("shape", .tensor(TensorType(.i64, [2]))), ("n", .tensor(TensorType(.i64, [])))]
    }
  }

  @Test func elementsStandInBrackets() throws {
    let arguments = ["any: shape=[-1,4], seq=1", "sized: seq=2..4@3, shape=[1, 4]..[512,4]@[128,4]"]
    let set = try values(arguments[0], arguments[1])
    #expect(set?.values["shape"] == [Dim(Symbol("shape$0", Interval(-1, 512))), 4])
    let profiles = try ProfileArguments.parse(.texts(arguments), symbols: symbols, inputs: inputs, values: set)
    #expect(profiles.map(\.name) == ["any", "sized"])
    #expect(
      profiles.map(\.ranges) == [
        [.init(symbol: "shape$0", min: -1, opt: -1, max: -1), .init(symbol: "seq", min: 1, opt: 1, max: 1)],
        [.init(symbol: "shape$0", min: 1, opt: 128, max: 512), .init(symbol: "seq", min: 2, opt: 3, max: 4)],
      ])
  }

  @Test func withoutBracketsThereAreNoElements() throws { #expect(try values("a: shape=2, seq=1") == nil) }

  @Test(arguments: [
    ("shap=[1,2]", "APUS-C-0011"), ("shape=[1,2], shape=[1,2]", "APUS-C-0013"), ("shape=[1,2]..[3,1]", "APUS-B-0022"),
    ("shape=[2,1]..[3,1]@[4,1]", "APUS-B-0022"),
    ("n=[\([String](repeating: "1", count: 65).joined(separator: ","))]", "APUS-B-0027"),
  ])
  func mistakesOfElements(entries: String, code: String) {
    do {
      _ = try values("a: \(entries)")
      Issue.record("no mistake is found")
    } catch let error as any RoomError {
      #expect(error.problems.map(\.code) == [code])
    } catch { Issue.record("\(error)") }
  }

  @Test func elementsAreGivenByEveryProfileOrNone() throws {
    let error = #expect(throws: UsageError.self) { try values("a: shape=[1,2]", "b: seq=1") }
    #expect(error?.problems.map { "\($0.code) \($0.place)" } == ["APUS-C-0024 --profile \"b: seq=1\""])
  }

  @Test(arguments: [
    "shape=[1,2", "shape=1 2]", "shape=[]", "shape=[1,x]", "shape=[1,2]..3", "shape=[1]@2", "shape=[1 2]",
  ])
  func malformedElementsAreNamed(entry: String) {
    let error = #expect(throws: UsageError.self) { try parse("a: \(entry)") }
    #expect(error?.problems.first?.code == "APUS-C-0010")
  }

  @Test func inputsStandForTheirSymbols() throws {
    let profile = try parse("prefill: ids=1x1x4..2x512x4@1x256x4, mask=1..512@256")[0]
    #expect(
      profile.ranges == [
        .init(symbol: "batch", min: 1, opt: 1, max: 2), .init(symbol: "seq", min: 1, opt: 256, max: 512),
      ])
  }

  @Test func contradictingRangesNameBothInputs() {
    let error = #expect(throws: UsageError.self) { try parse("a: ids=1x2x4, mask=3") }
    let message = error?.problems.first?.message ?? ""
    #expect(message.contains("axis 1 of input 'ids'") && message.contains("axis 0 of input 'mask'"), "\(message)")
  }

  @Test func mistakesOfSeveralProfilesComeTogether() {
    let error = #expect(throws: UsageError.self) {
      try parse("a: sq=1", "a: batch=x")
    }
    #expect(error?.problems.map(\.code) == ["APUS-C-0011", "APUS-C-0013", "APUS-C-0010"])
  }
}

@Suite struct RandomInputTests {
  /// Rule U3: inputs that nobody gives have the shape that the profile is tuned for.
  @Test(arguments: [0, 1]) func u3_inputsAreMadeUpAtOpt(index: Int) throws {
    let symbol = Symbol("n", Interval(1, 512))
    var plan = Plan(name: "p", fingerprint: Fingerprint(backend: "cpu", target: "any", features: []))
    let type = ValueType.tensor(TensorType(.i64, index == 0 ? [1, 1] : [1, Dim(symbol)]))
    plan.inputs = [Binding(name: "ids", type: type, slot: 0)]
    plan.profile = Profile(
      index == 0 ? "decode" : "prefill", index == 0 ? [:] : ["n": .range(min: 1, opt: 256, max: 512)])
    let entries = try InputValues(files: [], seed: 0, plan: plan, shapes: [:]).entries
    #expect(entries.map(\.value.tensor?.shape) == [index == 0 ? [1, 1] : [1, 256]])
  }
}

@Suite struct SpellingTests {
  @Test func slipsAreRecognised() {
    #expect(Spelling.nearest(to: "imgaes", in: ["image", "images", "labels"]) == "images")
    #expect(Spelling.nearest(to: "IMAGES", in: ["images"]) == "images")
    #expect(Spelling.nearest(to: "pixels", in: ["images", "labels"]) == nil)
    #expect(Spelling.nearest(to: "y", in: ["x", "z"]) == nil)
    #expect(Spelling.hint(for: "y", in: ["x", "z"]) == "Known: x, z.")
    #expect(Spelling.hint(for: "y", in: []) == "There are none.")
  }
}
