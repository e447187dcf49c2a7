import Apus
import ApusCore
import ApusPlan
import ApusRuntime
import ArgumentParser
import Testing

@testable import ApusCLI

/// trtexec's profile flags, from the words typed to profiles of a model.
@Suite struct ShapeFlagTests {
  private static let seq = Dim(Symbol("seq", Interval(0, 1024)))
  private let symbols = [Symbol("batch"), Symbol("seq", Interval(0, 1024))]
  private let inputs: [(name: String, type: ValueType)] = [
    ("ids", .tensor(TensorType(.i64, [Dim(Symbol("batch")), seq]))), ("a:0,b", .tensor(TensorType(.f32, [seq, 4]))),
    ("flag", .tensor(TensorType(.bool, []))),
  ]

  private func parse(_ words: String...) throws -> [Profile] {
    let command = try #require(try ApusCommand.parseAsRoot(["build", "model.onnx"] + words) as? BuildCommand)
    return try ProfileArguments.parse(try command.profiles.declarations(), symbols: symbols, inputs: inputs)
  }

  private func codes(_ words: [String]) -> [String] {
    do {
      let command = try ApusCommand.parseAsRoot(["build", "model.onnx"] + words) as? BuildCommand
      let declared = try command?.profiles.declarations() ?? .texts([])
      _ = try ProfileArguments.parse(declared, symbols: symbols, inputs: inputs)
      return []
    } catch { return (error as? UsageError)?.problems.map(\.code) ?? ["\(error)"] }
  }

  private func seqs(_ profiles: [Profile]) -> [[Int]] {
    profiles.flatMap { $0.ranges.filter { $0.symbol == "seq" }.map { [$0.min, $0.opt, $0.max] } }
  }

  @Test func flagsBelongToTheProfileBeforeThem() throws {
    let profiles = try parse(
      "--profile=0", "--minShapes=ids:1x1", "--optShapes=ids:1x2", "--maxShapes=ids:1x3", "--profile", "1",
      "--maxShapes=ids:1x512", "--minShapes=ids:1x1", "--optShapes=ids:1x256")
    #expect(profiles.map(\.name) == ["profile0", "profile1"])
    #expect(seqs(profiles) == [[1, 2, 3], [1, 256, 512]])
    #expect(profiles[0].ranges[0] == .init(symbol: "batch", min: 1, opt: 1, max: 1))
  }

  @Test func profilesAreOrderedByNumber() throws {
    let profiles = try parse("--profile=1", "--shapes=ids:1x9", "--profile=0", "--shapes=ids:1x5")
    #expect(profiles.map(\.name) == ["profile0", "profile1"] && seqs(profiles) == [[5, 5, 5], [9, 9, 9]])
  }

  @Test func withoutANumberThereIsOneProfile() throws {
    #expect(seqs(try parse("--maxShapes=ids:1x8", "--optShapes=ids:1x4", "--minShapes=ids:1x2")) == [[2, 4, 8]])
  }

  /// Opt stands for min and max; without opt, max for opt and min, min for the rest.
  @Test func whatIsLeftOutIsFilled() throws {
    #expect(seqs(try parse("--optShapes=ids:1x4")) == [[4, 4, 4]])
    #expect(seqs(try parse("--minShapes=ids:1x4")) == [[4, 4, 4]])
    #expect(seqs(try parse("--maxShapes=ids:1x4")) == [[4, 4, 4]])
    #expect(seqs(try parse("--minShapes=ids:1x2", "--maxShapes=ids:1x4")) == [[2, 4, 4]])
    #expect(seqs(try parse("--minShapes=ids:1x2", "--optShapes=ids:1x4")) == [[2, 4, 4]])
    #expect(seqs(try parse("--optShapes=ids:1x2", "--maxShapes=ids:1x4")) == [[2, 2, 4]])
  }

  @Test func namesHoldColonsAndCommas() throws {
    #expect(seqs(try parse("--shapes='a:0,b':7x4,flag:scalar,ids:2x7")) == [[7, 7, 7]])
    #expect(codes(["--shapes=a:0:7x4"]) == ["APUS-C-0011"])
    #expect(codes(["--shapes='flag':"]) == [])
  }

  /// Numbers that cannot be the input's shape are the elements of a shape tensor, as in trtexec.
  @Test func elementsAreToldFromShapes() throws {
    let words = [
      "--profile=0", "--shapes=fold:-1x4,ids:1x2", "--profile=1", "--minShapes=fold:1x4,ids:1x1",
      "--optShapes=fold:128x4,ids:1x2", "--maxShapes=fold:512x4,ids:1x3",
    ]
    let inputs = inputs + [("fold", ValueType.tensor(TensorType(.i64, [2])))]
    let command = try #require(try ApusCommand.parseAsRoot(["build", "model.onnx"] + words) as? BuildCommand)
    let declared = try command.profiles.declarations().tellingElements { inputs }
    let set = try ProfileArguments.values(declared) { inputs }
    #expect(set?.values["fold"] == [Dim(Symbol("fold$0", Interval(-1, 512))), 4])
    let profiles = try ProfileArguments.parse(declared, symbols: symbols, inputs: inputs, values: set)
    #expect(
      profiles.map { $0.ranges.first } == [
        .init(symbol: "fold$0", min: -1, opt: -1, max: -1), .init(symbol: "fold$0", min: 1, opt: 128, max: 512),
      ])
    #expect(seqs(profiles) == [[2, 2, 2], [1, 2, 3]])
    #expect(codes(["--shapes=flag:3x4"]) == ["APUS-C-0010"])
  }

  @Test(arguments: [
    (["--shapes=ids"], ["APUS-C-0025"]), (["--shapes", ""], ["APUS-C-0025"]), (["--shapes=ids:1x"], ["APUS-C-0025"]),
    (["--shapes=ids:1x-4"], ["APUS-C-0012"]), (["--shapes=:1x4"], ["APUS-C-0025"]),
    (["--shapes='ids:1x4"], ["APUS-C-0025"]), (["--shapes=ids:1x99999999999999999999"], ["APUS-C-0025"]),
    (["--shapes=ids:1x4,ids:1x5"], ["APUS-C-0003"]), (["--shapes=ids:1x4", "--minShapes=ids:1x1"], ["APUS-C-0003"]),
    (["--minShapes=ids:1x4", "--maxShapes=ids:1x4x1"], ["APUS-C-0004"]), (["--shapes=ids:1x4x1"], ["APUS-C-0010"]),
    (["--minShapes=ids:1x9", "--maxShapes=ids:1x4"], ["APUS-C-0012"]), (["--shapes=ids:1x4096"], ["APUS-C-0012"]),
    (["--shapes=idz:1x4"], ["APUS-C-0011"]), (["--profile=0"], ["APUS-C-0027"]),
    (["--profile=-1", "--shapes=ids:1x4"], ["APUS-C-0027"]), (["--profile=1", "--shapes=ids:1x4"], ["APUS-C-0027"]),
    (["--profile=0", "--shapes=ids:1x4", "--profile=0", "--shapes=ids:1x5"], ["APUS-C-0027"]),
    (["--shapes=ids:1x4", "--profile=0", "--shapes=ids:1x4"], ["APUS-C-0027"]),
    (["--profile=0", "--shapes=ids:1x4", "--profile=9223372036854775807"], ["APUS-C-0027", "APUS-C-0027"]),
    (["--profile", "a: seq=1", "--shapes=ids:1x4"], ["APUS-C-0026"]),
    (["--profile", "a: seq=1", "--profile=0"], ["APUS-C-0026"]),
    (["--shapes=ids:1x4,'a:0,b':5x4"], ["APUS-C-0017"]),
    (
      ["--profile=0", "--shapes=ids:x,flag", "--profile=2", "--minShapes=ids:1", "--maxShapes=ids:1x1"],
      ["APUS-C-0025", "APUS-C-0025", "APUS-C-0027", "APUS-C-0004"]
    ),
  ])
  func mistakes(words: [String], expected: [String]) { #expect(codes(words) == expected) }

  @Test func oneWayOfChoosingAProfile() throws {
    let run = try #require(try ApusCommand.parseAsRoot(["run", "m", "--useProfile=1"]) as? RunCommand)
    #expect(try run.execution.selection() == .index(1))
    let both = try #require(
      try ApusCommand.parseAsRoot(["run", "m", "--useProfile=1", "--profile", "a"]) as? RunCommand)
    #expect(throws: UsageError.self) { try both.execution.selection() }
  }
}
