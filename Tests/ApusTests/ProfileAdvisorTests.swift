import Apus
import ApusCore
import ApusGraph
import ApusPlan
import Testing

/// Profiles proposed for recorded shapes.
@Suite struct ProfileAdvisorTests {
  /// Calls of one input `x` with one size, and how often.
  private static func space(_ calls: [(Int, Int)]) throws -> ShapeSpace {
    ShapeSpace(try ShapeObservations(calls.map { .init(shapes: ["x": [1, $0.0]], count: $0.1) }))
  }

  private func best(_ space: ShapeSpace, _ count: Int) -> ProfileProposal? {
    ProfileAdvisor.proposals(space, .byElements(space), upTo: count).last
  }

  private func sizes(_ proposal: ProfileProposal?) -> [[Int]] {
    proposal?.profiles.map { [$0.min[0], $0.opt[0], $0.max[0]] } ?? []
  }

  @Test func decodeAndPrefillAreToldApart() throws {
    let prefill = (0...100).map { (100 + $0, 10) }
    let space = try Self.space([(1, 9090)] + prefill)
    let found = sizes(best(space, 2))
    #expect(found.count == 2 && found[0] == [1, 1, 1])
    #expect(found.last?[0] == 100 && found.last?[2] == 200 && (100...200).contains(found.last?[1] ?? 0), "\(found)")
    #expect(best(space, 2)?.profiles.map(\.callCount) == [9090, 1010])
  }

  @Test func oneProfileIsTheEnvelope() throws {
    let space = try Self.space([(7, 1), (1, 5), (300, 2)])
    #expect(sizes(best(space, 1)).map { [$0[0], $0[2]] } == [[1, 300]])
    let single = ShapeSpace(try ShapeObservations([.init(shapes: ["x": [1, 9]], count: 4)]))
    #expect(best(single, 3)?.arguments(single) == ["profile0: x=1x9"])
  }

  /// A size that most calls have gets a profile of its own in the middle of a range.
  @Test func aHotSizeInsideARangeIsFixed() throws {
    let spread = [90, 100, 110, 120, 140, 150, 160, 170].map { ($0, 5) }
    let found = sizes(best(try Self.space([(128, 400)] + spread), 2))
    #expect(found[0] == [128, 128, 128] && found[1][0] == 90 && found[1][2] == 170, "\(found)")
  }

  @Test func rangesMayLeaveGaps() throws {
    let found = sizes(best(try Self.space([(10, 900), (12, 800), (14, 900), (1000, 9), (1200, 8), (1400, 9)]), 2))
    #expect(found.map { [$0[0], $0[2]] } == [[10, 14], [1000, 1400]])
  }

  @Test(arguments: 0..<40) func everyShapeIsCoveredAndMoreProfilesGain(seed: Int) throws {
    var generator = RandomTensor.Generator(seed: UInt64(seed))
    let calls = (0..<Int.random(in: 1...60, using: &generator)).map { _ in
      ShapeObservations.Observation(
        shapes: [
          "x": [Int.random(in: 0...4, using: &generator), Int.random(in: 0...900, using: &generator)],
          "y": [Int.random(in: 1...2, using: &generator)],
        ], count: Int.random(in: 1...1000, using: &generator))
    }
    let space = ShapeSpace(try ShapeObservations(calls))
    let proposals = ProfileAdvisor.proposals(space, .byElements(space), upTo: 6)
    #expect(proposals.count == 6)
    for (index, proposal) in proposals.enumerated() {
      #expect(proposal.profiles.count <= index + 1)
      #expect(proposal.profiles.reduce(0) { $0 + $1.callCount } == space.observations.callCount)
      #expect(index == 0 || proposal.meanSeconds <= proposals[index - 1].meanSeconds)
      for profile in proposal.profiles {
        for axis in profile.min.indices {
          #expect(profile.min[axis] <= profile.opt[axis] && profile.opt[axis] <= profile.max[axis])
        }
      }
    }
    #expect(proposals == ProfileAdvisor.proposals(space, .byElements(space), upTo: 6))
    let shuffled = ShapeSpace(try ShapeObservations(calls.shuffled(using: &generator)))
    #expect(shuffled.points == space.points)
  }

  /// Any set of at most `count` profiles, fixed or a range with any opt in it, each call in the best that holds it.
  private func exhaustive(_ space: ShapeSpace, _ costs: RunCosts, _ count: Int) -> Double {
    let points = space.points.indices
    var times: [[Double]] = points.map { point in points.map { $0 == point ? costs.fixed[point] : .infinity } }
    for low in points {
      for high in points where high > low {
        for opt in low...high {
          times.append(points.map { (low...high).contains($0) ? costs.tuned[opt][$0] : .infinity })
        }
      }
    }
    func search(_ from: Int, _ left: Int, _ best: [Double]) -> Double {
      var least = zip(space.points, best).reduce(0) { $0 + Double($1.0.count) * $1.1 }
      if left == 0 { return least }
      for index in from..<times.count {
        least = min(least, search(index + 1, left - 1, zip(best, times[index]).map { min($0, $1) }))
      }
      return least
    }
    let calls = space.points.reduce(0) { $0 + $1.count }
    return search(0, count, points.map { _ in .infinity }) / Double(calls)
  }

  @Test(arguments: 0..<30) func nothingIsBetterWhenOneSizeVaries(seed: Int) throws {
    var generator = RandomTensor.Generator(seed: UInt64(seed) + 1000)
    let space = try Self.space(
      (0..<6).map { _ in (Int.random(in: 1...2000, using: &generator), Int.random(in: 1...1000, using: &generator)) })
    let costs = RunCosts.byElements(space)
    let proposals = ProfileAdvisor.proposals(space, costs, upTo: 3)
    for count in 1...3 {
      let least = exhaustive(space, costs, count)
      #expect(abs(proposals[count - 1].meanSeconds - least) <= 1e-9 * least, "\(count) profiles")
    }
  }

  @Test func severalSizesAreClustered() throws {
    let calls = [
      ([1, 1], 500_000), ([8, 100], 30), ([8, 128], 40), ([9, 120], 30), ([1, 900], 10), ([1, 1000], 10),
    ].map {
      ShapeObservations.Observation(shapes: ["x": $0.0], count: $0.1)
    }
    let space = ShapeSpace(try ShapeObservations(calls))
    let found = ProfileAdvisor.proposals(space, .byElements(space), upTo: 3).last?.profiles.map { [$0.min, $0.max] }
    #expect(found == [[[1, 1], [1, 1]], [[8, 100], [9, 128]], [[1, 900], [1, 1000]]])
  }

  @Test func manySizesAreGrouped() throws {
    let space = try Self.space((1...20_000).map { ($0, 1 + $0 % 7) } + [(77, 90_000)])
    #expect(space.points.count <= ShapeSpace.pointLimit)
    let proposal = try #require(best(space, 4))
    #expect(proposal.profiles.reduce(0) { $0 + $1.callCount } == space.observations.callCount)
    #expect(sizes(proposal).contains([77, 77, 77]))
    #expect(sizes(proposal).map { $0[0] }.min() == 1 && sizes(proposal).map { $0[2] }.max() == 20_000)
  }

  @Test func absurdSizesAreNoDanger() throws {
    let space = try Self.space([(.max, .max), (0, 1), (.max - 1, .max), (5, 3)])
    for proposal in ProfileAdvisor.proposals(space, .byElements(space), upTo: 16) {
      #expect(proposal.profiles.allSatisfy { $0.min[0] <= $0.max[0] })
    }
  }

  // MARK: Models

  private static let n = Dim(Symbol("n"))

  @Test func symbolsAreFoundInShapes() throws {
    let calls = [(2, 5), (7, 1)].map { n, count in
      ShapeObservations.Observation(shapes: ["x": [2 * n + 1, 4], "mask": [n], "flag": []], count: count)
    }
    let space = try ShapeSpace(
      try ShapeObservations(calls),
      inputs: [
        ("x", .tensor(TensorType(.f32, [Self.n * 2 + 1, 4]))), ("mask", .tensor(TensorType(.f32, [Self.n]))),
        ("flag", .tensor(TensorType(.bool, []))), ("words", .sequence(.tensor(TensorType(.string, [])))),
      ])
    #expect(space.variables.map(\.name) == ["n"] && space.points.map(\.sizes) == [[2], [7]])
    #expect(best(space, 2)?.arguments(space) == ["profile0: n=2", "profile1: n=7"])
    #expect(best(space, 1)?.arguments(space) == ["profile0: n=2..7@2"])
  }

  @Test func inputsAreWrittenOutWithoutAModel() throws {
    let calls = [(1, 100_000), (100, 20), (200, 2)].map { size, count in
      ShapeObservations.Observation(
        shapes: ["ids": [1, size], "mask": [1, size], "k": [3, 3], "t": []], count: count)
    }
    let space = ShapeSpace(try ShapeObservations(calls))
    #expect(space.variables.count == 1)
    #expect(
      best(space, 2)?.arguments(space) == [
        "profile0: ids=1x1, k=3x3, mask=1x1",
        "profile1: ids=1x100..1x200@1x100, k=3x3, mask=1x100..1x200@1x100",
      ])
  }

  @Test func shapesOfAnotherModelAreNamed() throws {
    let observations = try ShapeObservations([.init(shapes: ["x": [3, 4], "y": [2]], count: 1)])
    func places(_ inputs: [(name: String, type: ValueType)]) -> [String] {
      do throws(AdviceError) {
        _ = try ShapeSpace(observations, inputs: inputs)
        return []
      } catch { return error.problems.map { "\($0.code) \($0.place)" } }
    }
    let y = ("y", ValueType.tensor(TensorType(.f32, [2])))
    #expect(places([("x", .tensor(TensorType(.f32, [Self.n, 4]))), y]) == [])
    #expect(places([("x", .tensor(TensorType(.f32, [Self.n, 5]))), y]) == ["APUS-A-0004 input 'x', axis 1"])
    #expect(places([("x", .tensor(TensorType(.f32, [Self.n * 2, 4]))), y]) == ["APUS-A-0004 input 'x', axis 0"])
    #expect(
      places([("x", .tensor(TensorType(.f32, [Self.n]))), ("z", .tensor(TensorType(.f32, [])))])
        == ["APUS-A-0004 input 'y'", "APUS-A-0004 input 'x'", "APUS-A-0004 input 'z'"])
  }
}

/// Logs of shapes, right and wrong.
@Suite struct ShapeObservationTests {
  private func parse(_ text: String) throws(AdviceError) -> ShapeObservations {
    let bytes = Array(text.utf8)
    let result = bytes.withUnsafeBytes { bytes in
      Result { () throws(AdviceError) in try ShapeObservations.parse(bytes) }
    }
    return try result.get()
  }

  @Test func equalShapesAreAdded() throws {
    let log = try parse(
      """
      {"shapes": {"x": [1, 2], "y": []}, "count": 3}

      {"count": 4, "shapes": {"y": [], "x": [1, 2]}}\r
      {"shapes": {"x": [0, 9], "y": []}, "note": "kept out"}
      {"shapes": {"x": [0, 9], "y": []}, "note": "kept out"}
      """)
    #expect(log.inputs == ["x", "y"] && log.callCount == 9)
    #expect(log.observations.map(\.count) == [2, 7])
  }

  @Test func badLinesAreNamedTogether() {
    let text = """
      {"shapes": {"x": [1]}}
      nonsense
      {"shapes": {"x": [-1]}}
      {"shapes": {"x": [1.5]}}
      {"shapes": {"x": "1"}}
      {"shape": {"x": [1]}}
      {"shapes": {"x": [1]}, "count": 0}
      {"shapes": {}}
      {"shapes": {"x": [99999999999999999999]}}
      [1, 2]
      """
    let error = #expect(throws: AdviceError.self) { try parse(text) }
    #expect(error?.problems.map(\.code) == ["APUS-A-0002"])
    let message = error?.description ?? ""
    for line in 2...9 { #expect(message.contains("line \(line) "), "\(message)") }
    #expect(message.contains("and 1 more") && message.contains(#"{"shapes": {"INPUT": [SIZE, …], …}, "count": N}"#))
    #expect(!message.contains("line 1 "))
  }

  @Test func emptyAndMixedLogsAreRefused() {
    for (text, code) in [
      ("", "APUS-A-0001"), ("\n \n", "APUS-A-0001"),
      (#"{"shapes": {"x": [1]}}"# + "\n" + #"{"shapes": {"y": [1]}}"#, "APUS-A-0003"),
      (#"{"shapes": {"x": [1]}}"# + "\n" + #"{"shapes": {"x": [1, 1]}}"#, "APUS-A-0003"),
    ] {
      let error = #expect(throws: AdviceError.self) { try parse(text) }
      #expect(error?.problems.map(\.code) == [code])
    }
  }

  @Test func hostileLogsAreRefused() {
    for text in [
      String(repeating: "[", count: 1 << 20), String(repeating: #"{"shapes":"#, count: 100_000),
      #"{"shapes": {"x": [\#(String(repeating: "1,", count: 1 << 20))1]}}"#, "\u{0}\u{1}",
      #"{"shapes": {"x": [1e400]}}"#, #"{"shapes": {"x": [NaN]}}"#,
      #"{"shapes": {"x": [1]}, "count": -9223372036854775808}"#,
    ] {
      let error = #expect(throws: AdviceError.self) { try parse(text) }
      #expect(error?.problems.map(\.code) == ["APUS-A-0002"])
    }
  }

  @Test func damagedLogsNeverTrap() {
    let good = Array(#"{"shapes": {"x": [1, 17], "y": [3]}, "count": 12}"#.utf8)
    var generator = RandomTensor.Generator(seed: 7)
    for _ in 0..<3000 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[Int.random(in: bytes.indices, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      bytes.withUnsafeBytes { bytes in
        if let log = try? ShapeObservations.parse(bytes) {
          let space = ShapeSpace(log)
          #expect(!ProfileAdvisor.proposals(space, .byElements(space), upTo: 2).isEmpty)
        }
      }
    }
  }
}

/// Times between those that were measured.
@Suite struct TimeCurveTests {
  @Test func timesLieBetweenTheMeasured() {
    let curve = TimeCurve(
      work: [1024, 16, 256], fixed: [40, 1, 10], tuned: [[42, 2, 15], [80, 1, 11], [44, 1.5, 10]])
    #expect(curve.fixedSeconds(atWork: 16) == 1 && curve.fixedSeconds(atWork: 1024) == 40)
    #expect(curve.fixedSeconds(atWork: 640) == 25)
    #expect(curve.fixedSeconds(atWork: 1) == 1 && curve.fixedSeconds(atWork: 1 << 40) == 40)
    #expect(curve.factor(opt: 16, work: 1024) == 2 && curve.factor(opt: 1024, work: 16) == 2)
    #expect(curve.factor(opt: 256, work: 256) == 1)
    #expect(curve.factor(opt: 64, work: 16) == 1.25)
  }
}
