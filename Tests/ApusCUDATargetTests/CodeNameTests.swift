import ApusCUDADevice
import ApusCUDATarget
import Testing

/// Which code a GPU takes.
@Suite struct CodeNameTests {
  /// The targets that run on a GPU, the most suitable first.
  private func order(_ names: [String], major: Int, minor: Int) -> [String] {
    names.compactMap { name in
      CUDACodeName(name)?.suitability(major: major, minor: minor).map { (name, $0) }
    }.sorted { $0.1 > $1.1 }.map(\.0)
  }

  private static let all = Array(CUDAArchitecture.names.dropFirst())

  @Test func gpusTakeWhatCUDASays() {
    #expect(order(Self.all, major: 8, minor: 0) == ["sm_80", "compute_80"])
    #expect(order(Self.all, major: 8, minor: 6) == ["sm_86", "sm_80", "compute_80"])
    #expect(order(Self.all, major: 8, minor: 9) == ["sm_89", "sm_86", "sm_80", "compute_80"])
    #expect(order(Self.all, major: 9, minor: 0) == ["sm_90a", "compute_90", "compute_80"])
    #expect(order(Self.all, major: 10, minor: 0) == ["sm_100a", "compute_100", "compute_90", "compute_80"])
    #expect(order(Self.all, major: 10, minor: 3) == ["compute_100", "compute_90", "compute_80"])
    #expect(
      order(Self.all, major: 12, minor: 1) == ["sm_120", "compute_120", "compute_100", "compute_90", "compute_80"])
    #expect(order(Self.all, major: 7, minor: 5) == [])
    #expect(order(["sm_90", "sm_90a", "compute_90a"], major: 9, minor: 0) == ["sm_90a", "sm_90", "compute_90a"])
  }

  @Test(arguments: ["x86-64-v3", "sm_", "sm_9x", "compute", "sm_90b", ""]) func otherNamesAreNone(name: String) {
    #expect(CUDACodeName(name) == nil)
  }

  /// Code that runs on several GPUs takes no more shared memory than each of them has.
  @Test func everyTargetIsUnderstoodByBothHalves() throws {
    for name in Self.all {
      let architecture = try CUDAArchitecture(name: name, native: nil)
      let code = try #require(CUDACodeName(name))
      #expect(code.capability == architecture.capability && code.isAssembly == architecture.isVirtual)
    }
  }
}
