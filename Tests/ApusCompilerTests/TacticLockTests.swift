import ApusCore
import ApusPlan
import Testing

@testable import ApusCompiler

/// The text form of locks.
@Suite struct TacticLockTests {
  private static let text = """
    apus-lock 1
    # a comment

    target "x86-64-v3" profile "default \\"odd\\"" compiler "clang version 18.1.3 (a b)"
    step "gemm 6x16 coarse" f32 18.482us "mlp/product" "mlp/act"
    step "loops" f32,i64 - "a \\\\ b\\n"
    step "copy" f32 -
    run 262144 1.25e-05

    """

  @Test func textHoldsEverything() throws {
    let lock = try TacticLock(text: Self.text, path: "m.lock")
    let section = try #require(lock.sections.first)
    #expect(lock.sections.count == 1 && section.profile == "default \"odd\"" && section.lines.count == 3)
    #expect(section.lines[0].nodes == ["mlp/product", "mlp/act"] && section.lines[0].tactic == "gemm 6x16 coarse")
    #expect(section.lines[0].seconds == 18.482e-6 && section.lines[0].number == 5)
    #expect(section.lines[1].nodes == ["a \\ b\n"] && section.lines[2].nodes.isEmpty)
    #expect(section.timings == [Timing(work: 262144, seconds: 1.25e-05)])
    let again = try TacticLock(text: lock.text, path: "m.lock")
    #expect(again.text == lock.text && again.sections[0].timings == section.timings)
  }

  /// A movement of elements and a product may come of one node.
  @Test func tacticsAreThoseOfTheRegion() {
    let lines = ["loops", "gemm 6x16 fine", "gemm 6x16"].map {
      TacticLock.Line(nodes: ["n"], tactic: $0, precision: "f32", seconds: nil)
    }
    let locked = LockedTactics(lines)
    let possible = ["gemm 6x16", "gemm 6x16 fine"]
    #expect(locked.next(for: ["n"], among: possible) == "gemm 6x16 fine")
    #expect(locked.next(for: ["n"], among: possible) == "gemm 6x16")
    #expect(locked.next(for: ["n"], among: possible) == nil && locked.next(for: ["m"], among: possible) == nil)
  }

  @Test func otherFilesAreRefused() {
    let error = #expect(throws: BuildError.self) { try TacticLock(text: "hello", path: "m.lock") }
    #expect(error?.problems.map(\.code) == ["APUS-B-0061"])
  }

  @Test func everyBadLineIsNamed() {
    let bad = "step \"x\"\nstep \"x\" f32 soon \"n\"\nrun 1\ntarget \"a\"\nstep \"open f32 - \"n\nwhat\n"
    let error = #expect(throws: BuildError.self) { try TacticLock(text: Self.text + bad, path: "m.lock") }
    #expect(error?.problems.map(\.code) == [String](repeating: "APUS-B-0062", count: 6))
    #expect(error?.problems[0].place == "m.lock, line 9")
  }
}
