import Apus
import ApusCore
import Testing

/// The rules of declaring profiles by inputs, by their names in the specification (D declaration, U union, X across
/// inputs, E export).
@Suite struct InputDeclarationTests {
  private static let decode = Input.Sizes.fixed([4, 1, 16])
  private static let prefill = Input.Sizes.range(min: [4, 1, 16], opt: [4, 48, 16], max: [4, 64, 16])

  private func problems(_ inputs: Input...) -> [String] {
    do throws(BuildError) {
      _ = try ProfileSet(inputs)
      return []
    } catch { return error.problems.map { "\($0.code) \($0.place)" } }
  }

  private func x(_ profiles: [Input.Sizes], _ sharedDims: [Int: String] = [:]) -> Input {
    Input("x", .f32, profiles: profiles, sharedDims: sharedDims)
  }

  /// There is no way to say both: one initializer takes the shape, the other the profiles.
  @Test func d1_anInputHasAShapeOrProfiles() {
    #expect(Input("x", .f32, .fixed([4, 16])).profiles == nil)
    #expect(x([Self.decode, Self.prefill]).profiles == [Self.decode, Self.prefill])
  }

  /// A range is one way of giving the shape, so that it cannot stand beside profiles either.
  @Test func d2_aRangeIsAShape() throws {
    let input = Input("x", .f32, Self.prefill)
    #expect(input.profiles == nil)
    #expect(try ProfileSet([input]).profiles.count == 1)
  }

  @Test func d3_anEmptyListIsRefused() { #expect(problems(x([])) == ["APUS-B-0020 input 'x'"]) }

  /// An entry always has min and max; opt may be left out.
  @Test func d4_anEntryIsWhole() throws {
    let set = try ProfileSet([x([.range(min: [2], max: [8])])])
    #expect(set.profiles[0].ranges == [.init(symbol: "x_0", min: 2, opt: 5, max: 8)])
  }

  /// Sizes are lists of integers by their type; a scalar has an empty one.
  @Test func d5_aScalarHasNoSizes() throws { #expect(try ProfileSet([x([.fixed([])])]).shapes["x"] == []) }

  @Test func d6_minOptAndMaxHaveOneRank() {
    #expect(problems(x([.range(min: [1, 1], max: [1])])) == ["APUS-B-0021 input 'x', profile 0"])
    #expect(problems(x([.range(min: [1, 1], opt: [1], max: [2, 2])])) == ["APUS-B-0021 input 'x', profile 0"])
  }

  @Test func d7_profilesHaveOneRank() {
    #expect(problems(x([.fixed([1, 1]), .fixed([1])])) == ["APUS-B-0021 input 'x', profile 1"])
  }

  /// Upstream refuses 0; here the graph decides whether an empty tensor makes sense.
  @Test func d8_zeroIsASizeAndNegativeNumbersAreNot() {
    #expect(problems(x([.range(min: [0], max: [4])])) == [])
    #expect(problems(x([.range(min: [-1], max: [4])])) == ["APUS-B-0022 input 'x', profile 0"])
  }

  @Test(arguments: [([2], [1], [4]), ([2], [5], [4]), ([5], [5], [4])] as [([Int], [Int], [Int])])
  func d9_sizesAreInOrder(min: [Int], opt: [Int], max: [Int]) {
    #expect(problems(x([.fixed([1]), .range(min: min, opt: opt, max: max)])) == ["APUS-B-0022 input 'x', profile 1"])
  }

  @Test func d9_absurdSizesAreRefused() {
    #expect(problems(x([.range(min: [.min], max: [.max])])) == ["APUS-B-0022 input 'x', profile 0"])
  }

  @Test func d9_allMistakesComeAtOnce() {
    let bad = Input.Sizes.range(min: [3, 3], opt: [1, 1], max: [2, 2])
    #expect(problems(x([bad]), Input("y", .f32, profiles: [])).count == 3)
  }

  /// Nothing is ignored: what an input says beyond its profiles is checked, too.
  @Test func d10_namesOfAxesThatAreNotThereAreMistakes() {
    #expect(problems(x([Self.decode, Self.prefill], [1: "seq", 7: "rest"])) == ["APUS-B-0023 input 'x'"])
  }

  @Test func d11_theOrderIsKept() throws {
    let set = try ProfileSet([x([Self.prefill, Self.decode])], names: ["prefill", "decode"])
    #expect(set.profiles.map(\.name) == ["prefill", "decode"])
    #expect(set.profiles.map { $0.ranges[0].opt } == [48, 1])
  }

  @Test func d12_sharedDimsNameVaryingAxes() throws {
    let set = try ProfileSet([x([Self.decode, Self.prefill], [1: "seq"])])
    #expect(set.profiles[1].ranges == [.init(symbol: "seq", min: 1, opt: 48, max: 64)])
    #expect(problems(x([Self.decode, Self.prefill], [0: "batch"])) == ["APUS-B-0023 input 'x'"])
    #expect(problems(x([Self.decode, Self.prefill], [3: "rank"])) == ["APUS-B-0023 input 'x'"])
    #expect(problems(x([Self.decode, Self.prefill], [1: ""])) == ["APUS-B-0023 input 'x'"])
    #expect(problems(x([Self.decode], [1: "seq"])) == ["APUS-B-0023 input 'x'"])
  }

  @Test func d13_namesOfAxesComposeWithProfiles() throws {
    let set = try ProfileSet([x([Self.decode, Self.prefill], [1: "seq"])])
    #expect(set.shapes["x"]?[1].asSymbol?.name == "seq")
    #expect(set.profiles.map { $0.ranges.map(\.symbol) } == [["seq"], ["seq"]])
  }

  @Test func d14_staticProfilesThatDifferMakeTheAxisVary() throws {
    let set = try ProfileSet([x([.fixed([1]), .fixed([8])])])
    #expect(set.profiles.map { $0.ranges.map { [$0.min, $0.opt, $0.max] } } == [[[1, 1, 1]], [[8, 8, 8]]])
  }

  @Test func d15_theTextHasTheProfiles() {
    let input = x([Self.decode, Self.prefill], [1: "seq"])
    #expect(input.description == "x: f32 profiles=[4x1x16, 4x1x16..4x64x16@4x48x16] sharedDims=[1: seq]")
    #expect(Input("x", .f32, .range(min: [1], max: [2])).description == "x: f32 1..2")
    #expect(input != x([Self.prefill, Self.decode], [1: "seq"]))
  }

  @Test func d16_zeroIsTheSameInASingleRange() {
    #expect(problems(Input("x", .f32, .range(min: [0], max: [4]))) == [])
  }

  @Test(
    arguments: [
      [.fixed([1]), .fixed([1])], [.range(min: [1], max: [8]), .range(min: [2], max: [4])],
      [.fixed([1]), .range(min: [10], max: [20])], [.fixed([9]), .fixed([3]), .fixed([5])],
    ] as [[Input.Sizes]])
  func d17_profilesMayRepeatNestAndLeaveGaps(profiles: [Input.Sizes]) throws {
    #expect(try ProfileSet([x(profiles)]).profiles.count == profiles.count)
  }

  @Test func u1_theEnvelopeHoldsAllProfiles() throws {
    for order in [[Self.decode, Self.prefill], [Self.prefill, Self.decode]] {
      let shape = try ProfileSet([x(order)]).shapes["x"] ?? []
      #expect(shape.map(\.range) == [Interval(4, 4), Interval(1, 64), Interval(16, 16)])
    }
  }

  @Test func u2_gapsAreInsideTheEnvelope() throws {
    let shape = try ProfileSet([x([.fixed([1]), .range(min: [10], max: [20])])]).shapes["x"] ?? []
    #expect(shape.map(\.range) == [Interval(1, 20)])
  }

  @Test func x1_theNumberOfProfilesIsThatOfTheInputs() throws {
    #expect(try ProfileSet([x([Self.decode, Self.prefill, Self.decode])]).profiles.count == 3)
    #expect(try ProfileSet([]).profiles.isEmpty)
  }

  @Test func x2_inputsDeclareOneNumberOfProfiles() {
    let y = Input("y", .f32, profiles: [.fixed([1])])
    #expect(problems(x([Self.decode, Self.prefill]), y) == ["APUS-B-0024 input 'y'"])
  }

  @Test func x3_inputsWithoutProfilesAreTheSameInAll() throws {
    let set = try ProfileSet([
      x([Self.decode, Self.prefill]), Input("mask", .f32, .fixed([4, 4])),
      Input("n", .f32, .range(min: [1], opt: [2], max: [3])),
    ])
    for profile in set.profiles {
      #expect(profile.ranges.contains(.init(symbol: "n_0", min: 1, opt: 2, max: 3)))
    }
    #expect(set.shapes["mask"] == [4, 4])
  }

  @Test func x4_withoutProfilesThereIsOneWhenASizeVaries() throws {
    #expect(try ProfileSet([Input("x", .f32, .fixed([1]))]).profiles.isEmpty)
    #expect(try ProfileSet([Input("x", .f32, .range(min: [1], max: [9]))]).profiles.count == 1)
  }

  @Test func e1_equalSizesAreConstants() throws {
    let shape = try ProfileSet([x([Self.decode, Self.prefill])]).shapes["x"] ?? []
    #expect(shape[0] == 4 && shape[2] == 16 && shape[1].asSymbol?.name == "x_1")
  }

  @Test func e2_axesOfOneNameAreOneSymbol() throws {
    let shared = [1: "seq"]
    let mask = Input(
      "mask", .i64, profiles: [.fixed([2, 1]), .range(min: [2, 1], opt: [2, 48], max: [2, 64])], sharedDims: shared)
    let set = try ProfileSet([x([Self.decode, Self.prefill], shared), mask])
    #expect(set.shapes["mask"]?[1] == set.shapes["x"]?[1])
    #expect(set.profiles[0].ranges.count == 1)
  }

  @Test func e2_rangesThatContradictNameBothInputs() {
    let mask = Input("mask", .i64, profiles: [.fixed([1]), .range(min: [1], max: [32])], sharedDims: [0: "seq"])
    let error = #expect(throws: BuildError.self) {
      try ProfileSet([x([Self.decode, Self.prefill], [1: "seq"]), mask])
    }
    #expect(error?.problems.map(\.code) == ["APUS-B-0025"])
    #expect(error?.description.contains("input 'mask', profile 1") == true)
    #expect(error?.description.contains("axis 1 of input 'x'") == true)
  }

  /// Upstream's default could exceed max.
  @Test func e5_theDefaultOptIsTheMiddle() throws {
    let set = try ProfileSet([x([.range(min: [1000], max: [1200])])])
    #expect(set.profiles[0].ranges == [.init(symbol: "x_0", min: 1000, opt: 1100, max: 1200)])
  }
}
