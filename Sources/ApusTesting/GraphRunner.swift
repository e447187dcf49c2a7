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
    /// What a build does by default, with every launch in several blocks, however small.
    case optimised
    /// What a build does by default, written to an engine file and read back.
    case loaded
    /// Cut into pieces in several places, and wherever only the host can compute something.
    case cut
    /// As optimised, every step on one of several lanes by chance: it must wait for all that it needs.
    case forked
  }

  package let plan: Plan
  private let engine: Engine

  /// - Parameters:
  ///   - passes: what is done to the graph where its form is not raw.
  ///   - change: what is changed of the plan before it runs.
  package init(
    _ graph: Graph, _ form: Form, target: any Target, device: any Device, passes: [Pass] = Pass.standard,
    change: (inout Plan) -> Void = { _ in }
  ) throws {
    var graph = graph
    var options = form == .raw ? BuildOptions(passes: [], fuses: false) : BuildOptions(passes: passes)
    if form == .cut {
      options.breaksAtHost = true
      options.breaks = Self.nameCuts(in: &graph)
    }
    var plan = try Builder.build(graph, name: "graph", targets: [target], options: options).plans[0]
    switch form {
    case .raw, .cut: break
    case .optimised: plan.steps = Self.split(plan.steps)
    case .forked:
      plan.steps = Self.split(plan.steps)
      plan.spread(over: 4, seed: 1)
    case .loaded: plan = try Self.reloaded(plan)
    }
    change(&plan)
    self.plan = plan
    engine = try Engine(plans: [plan], device: device, hostOperations: CatalogueHostOperations())
  }

  /// Names every node and gives the names of those after which something is left to do.
  private static func nameCuts(in graph: inout Graph) -> [String] {
    var names: [String] = []
    for (index, id) in graph.order.enumerated() {
      graph[id].name = "n\(index)"
      if index % 3 == 1 { names.append("n\(index)") }
    }
    return names.filter { name in (try? GraphCut.parts(of: graph, after: [name]) { _ in false }) != nil }
  }

  private static func reloaded(_ plan: Plan) throws -> Plan {
    let path = "/tmp/apus-\(getpid())-\(UInt64.random(in: 0 ... .max)).apus"
    defer { unlink(path) }
    try EngineFile.write([plan], to: path)
    return try EngineFile.read(path)[0]
  }

  /// Steps whose launches have five blocks, or none where there is nothing to do: results do not depend on their number.
  /// Blocks that work together come in eights.
  private static func split(_ steps: [Step]) -> [Step] {
    steps.map { step in
      var step = step
      switch step.action {
      case .launch(var launch):
        launch.blocks = Dim.minimum(launch.blocks, 1) * (launch.blocks.split(by: 8).rest == 0 ? 40 : 5)
        step.action = .launch(launch)
      case .branch(let condition, let then, let otherwise):
        step.action = .branch(condition: condition, then: split(then), else: split(otherwise))
      case .loop(var loop):
        loop.body = split(loop.body)
        step.action = .loop(loop)
      case .piece(var piece):
        piece.plan.steps = split(piece.plan.steps)
        step.action = .piece(piece)
      case .library, .copy, .host, .bind, .define: break
      }
      return step
    }
  }

  /// What the plan's steps are called, in order.
  package var stepNames: [String] { plan.steps.map(\.name) }

  /// Runs with inputs and outputs in memory between pages that cannot be touched; outputs are poisoned before.
  ///
  /// - Parameter expected: values of the shapes that the outputs will have.
  /// - Returns: the outputs, and the names of those beside which something was written.
  package func run(_ inputs: [HostValue], expected: [HostValue]) throws -> (outputs: [HostValue], overrun: [String]) {
    let context = try engine.makeContext()
    var kept: [GuardedMemory] = []
    for (index, (binding, value)) in zip(plan.inputs, inputs).enumerated() {
      guard let tensor = value.tensor, tensor.dtype != .string, plan.slots[binding.slot].storage != .object else {
        try context.bind(input: binding.name, to: value)
        continue
      }
      let memory = GuardedMemory(byteCount: tensor.byteCount, atEnd: index % 4 != 0)
      tensor.withUnsafeBytes { memory.bytes.copyMemory(from: $0) }
      kept.append(memory)
      try context.bind(input: binding.name, to: UnsafeRawBufferPointer(memory.bytes), shape: tensor.shape)
    }
    var memories: [(name: String, memory: GuardedMemory)] = []
    for (index, (binding, value)) in zip(plan.outputs, expected).enumerated() {
      guard let tensor = value.tensor, tensor.dtype != .string, plan.slots[binding.slot].storage != .object else {
        continue
      }
      let memory = GuardedMemory(byteCount: tensor.byteCount, atEnd: index % 2 == 0)
      memories.append((binding.name, memory))
      try context.bind(output: binding.name, to: memory.bytes)
    }
    try context.run()
    // Devices that record launches do so in the second run, and the third plays them.
    if !engine.device.sharesHostMemory {
      for _ in 0..<2 {
        for (_, memory) in memories { memory.poison() }
        try context.run()
      }
    }
    var outputs: [HostValue] = []
    for binding in plan.outputs { outputs.append(try context.output(binding.name)) }
    withExtendedLifetime(kept) {}
    return (outputs, memories.filter { !$0.memory.isIntact }.map(\.name))
  }
}

/// Memory between two pages that cannot be read or written, flush with the one after it or the one before; what remains
/// of its own pages shows when something is written there. Its bytes start as NaN or −1 in every type.
package final class GuardedMemory {
  private static let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))
  private static let mark: UInt8 = 0xA5

  private let all: UnsafeMutableRawBufferPointer
  private let open: UnsafeMutableRawBufferPointer
  package let bytes: UnsafeMutableRawBufferPointer

  package init(byteCount: Int, atEnd: Bool) {
    let page = Self.pageSize
    let size = (byteCount + page - 1) / page * page
    guard let base = mmap(nil, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), base != MAP_FAILED
    else {
      preconditionFailure("no memory for a test")
    }
    mprotect(base + page, size, PROT_READ | PROT_WRITE)
    all = UnsafeMutableRawBufferPointer(start: base, count: size + 2 * page)
    open = UnsafeMutableRawBufferPointer(rebasing: all[page..<page + size])
    _ = open.initializeMemory(as: UInt8.self, repeating: Self.mark)
    let start = atEnd ? size - byteCount : 0
    bytes = UnsafeMutableRawBufferPointer(rebasing: open[start..<start + byteCount])
    poison()
  }

  package func poison() { _ = bytes.initializeMemory(as: UInt8.self, repeating: 0xFF) }

  deinit { munmap(all.baseAddress, all.count) }

  package var isIntact: Bool {
    guard let first = open.baseAddress, let own = bytes.baseAddress else { return true }
    let start = own - first
    return open[..<start].allSatisfy { $0 == Self.mark }
      && open[(start + bytes.count)...].allSatisfy { $0 == Self.mark }
  }
}
