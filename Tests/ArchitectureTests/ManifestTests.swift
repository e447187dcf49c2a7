import Foundation
import TestSupport
import Testing

/// Modules import each other in one direction only.
@Suite struct ManifestTests {
  private static let compiler: Set = ["ApusCore", "ApusKernel", "ApusGraph", "ApusOps"]
  private static let runtime: Set = ["ApusCore", "ApusPlan", "ApusRuntime"]

  /// What each module may depend on.
  private static let allowed: [String: Set<String>] = [
    "ApusCore": [],
    "ApusPlan": ["ApusCore"],
    "ApusRuntime": ["ApusCore", "ApusPlan"],
    "ApusCPUDevice": runtime.union(["CApusHost"]),
    "ApusCUDADevice": runtime.union(["CApusCUDA"]),
    "ApusKernel": ["ApusCore"],
    "ApusGraph": ["ApusCore", "ApusKernel"],
    "ApusOps": ["ApusCore", "ApusKernel", "ApusGraph", "CZlib"],
    "ApusImport": compiler,
    "ApusCompiler": compiler.union(runtime),
    "ApusCPUTarget": compiler.union(runtime).union(["ApusCompiler"]),
    "ApusCUDATarget": compiler.union(runtime).union(["ApusCompiler", "CApusCUDA"]),
    "Apus": compiler.union(runtime)
      .union([
        "ApusImport", "ApusCompiler", "ApusCPUTarget", "ApusCPUDevice", "ApusCUDATarget", "ApusCUDADevice", "CZlib",
      ]),
  ]

  /// Modules that may depend on all others.
  private static let top: Set = ["ApusCLI", "ApusTesting", "ApusC"]

  @Test func theManifestHasNoOtherEdges() throws {
    let text = try String(contentsOf: Repository.root.appendingPathComponent("Package.swift"), encoding: .utf8)
    var found: Set<String> = []
    for match in text.matches(of: /module\(\s*"(?<name>\w+)"(?:,\s*\[(?<list>[^\]]*)\])?/) {
      let name = String(match.output.name)
      found.insert(name)
      let list = match.output.list.map(String.init) ?? ""
      let dependencies = Set(list.matches(of: /"(?<name>C?Apus\w*|CZlib)"/).map { String($0.output.name) })
      try check(name, dependencies)
    }
    #expect(
      found.isSuperset(of: Self.allowed.keys),
      "not found in Package.swift: \(Set(Self.allowed.keys).subtracting(found))")
  }

  @Test func sourcesImportNothingElse() throws {
    for file in try Repository.sources(under: "Sources") {
      let parts = file.split(separator: "/").map(String.init)
      let text = try Repository.text(file)
      let imports = text.matches(of: /(?m)^(?:@\w+ )?(?:public |package )?import (?<name>C?Apus\w*|CZlib)/)
      try check(parts[1], Set(imports.map { String($0.output.name) }), file)
    }
  }

  private func check(_ name: String, _ dependencies: Set<String>, _ place: String = "Package.swift") throws {
    if Self.top.contains(name) { return }
    let allowed = try #require(Self.allowed[name], "\(name) is a module that the architecture does not know")
    #expect(dependencies.isSubset(of: allowed), "\(place): \(name) depends on \(dependencies.subtracting(allowed))")
  }
}
