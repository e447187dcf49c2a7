import Apus
package import ApusCompiler
package import ApusCore
package import ApusGraph
package import ApusPlan
package import ApusRuntime

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A graph built in one of the forms that must all give the same results, ready to run.
package struct GraphRunner {
  package enum Form: String, CaseIterable, Sendable {
    /// Every node by itself, no passes.
    case raw
    /// What a build does by default.
    case optimised
    /// The same, written to an engine file and read back.
    case loaded
  }

  package let plan: Plan
  private let engine: Engine

  package init(_ graph: Graph, _ form: Form, target: any Target, device: any Device) throws {
    let options = form == .raw ? BuildOptions(passes: [], fuses: false) : BuildOptions()
    var plan = try Builder.build(graph, name: "graph", target: target, options: options).plan
    if form == .loaded { plan = try Self.reloaded(plan) }
    self.plan = plan
    engine = try Engine(plan: plan, device: device, hostOperations: CatalogueHostOperations())
  }

  private static func reloaded(_ plan: Plan) throws -> Plan {
    let path = "/tmp/apus-\(getpid())-\(UInt64.random(in: 0 ... .max)).apus"
    defer { unlink(path) }
    try EngineFile.write(plan, to: path)
    return try EngineFile.read(path)
  }

  /// What the plan's steps are called, in order.
  package var stepNames: [String] { plan.steps.map(\.name) }

  /// Runs with tensor outputs in poisoned memory of the sizes that `expected` has, between guard bytes.
  ///
  /// - Returns: the outputs, and the names of those whose guard bytes were overwritten.
  package func run(_ inputs: [HostValue], expected: [HostValue]) throws -> (outputs: [HostValue], overrun: [String]) {
    let context = try engine.makeContext()
    for (binding, value) in zip(plan.inputs, inputs) { try context.bind(input: binding.name, to: value) }
    var memories: [(name: String, memory: GuardedMemory)] = []
    for (binding, value) in zip(plan.outputs, expected) {
      guard let tensor = value.tensor, tensor.dtype != .string, plan.slots[binding.slot].storage != .object else {
        continue
      }
      let memory = GuardedMemory(byteCount: tensor.byteCount)
      memories.append((binding.name, memory))
      try context.bind(output: binding.name, to: memory.bytes)
    }
    try context.run()
    var outputs: [HostValue] = []
    for binding in plan.outputs { outputs.append(try context.output(binding.name)) }
    return (outputs, memories.filter { !$0.memory.isIntact }.map(\.name))
  }
}

/// Memory that shows when something is written beside it, and whose bytes start as NaN or −1 in every type.
package final class GuardedMemory {
  private static let guardCount = 128
  private static let mark: UInt8 = 0xA5

  private let all: UnsafeMutableRawBufferPointer
  package let bytes: UnsafeMutableRawBufferPointer

  package init(byteCount: Int) {
    all = .allocate(byteCount: byteCount + 2 * Self.guardCount, alignment: 64)
    _ = all.initializeMemory(as: UInt8.self, repeating: Self.mark)
    bytes = UnsafeMutableRawBufferPointer(rebasing: all[Self.guardCount..<Self.guardCount + byteCount])
    _ = bytes.initializeMemory(as: UInt8.self, repeating: 0xFF)
  }

  deinit { all.deallocate() }

  package var isIntact: Bool {
    all.prefix(Self.guardCount).allSatisfy { $0 == Self.mark }
      && all.suffix(Self.guardCount).allSatisfy { $0 == Self.mark }
  }
}
