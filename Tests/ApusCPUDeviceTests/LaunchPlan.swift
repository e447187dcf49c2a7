import ApusCore
import ApusPlan
import ApusRuntime

/// Plans of launches of ``CompiledImage/common``.
enum LaunchPlan {
  static let n = Symbol("n", Interval(0, 1 << 20))
  static let functions = ["affine", "nothing", "count", "sums"]

  static func make(
    slots: [Slot], inputs: [Binding], outputs: [Binding], steps: [Step]
  ) throws -> Plan {
    var plan = Plan(name: "launches", fingerprint: Fingerprint(backend: "cpu", target: "x86-64", features: []))
    if !inputs.isEmpty { plan.shapeSymbols = [n] }
    plan.slots = slots
    plan.inputs = inputs
    plan.outputs = outputs
    plan.images = [try CPUDeviceTests.image.get()]
    plan.functions = functions.map { KernelFunction(image: 0, symbol: $0) }
    plan.steps = steps
    plan.assignLifetimes()
    return plan
  }

  static func launch(
    _ function: String, _ buffers: [Int], _ parameters: [Dim] = [0], blocks: Dim, scratch: Dim = 0
  ) -> Step {
    Step(
      .launch(
        Launch(
          function: functions.firstIndex(of: function) ?? 0, buffers: buffers,
          writes: function == "nothing" ? [] : [buffers.count - 1], parameters: parameters, blocks: blocks,
          scratchBytes: scratch)), name: function, tactic: "test")
  }

  /// y = affine(…affine(x)) with factor 2, `depth` times.
  static func chain(depth: Int, blocks: Dim) throws -> Plan {
    let type = ValueType.tensor(TensorType(.f32, [Dim(n)]))
    var slots = [
      Slot(name: "x", type: type, storage: .input(0)), Slot(name: "y", type: type, storage: .output(0)),
    ]
    var steps: [Step] = []
    var from = 0
    for step in 0..<depth {
      var to = 1
      if step < depth - 1 {
        to = slots.count
        slots.append(Slot(name: "h\(step)", type: type, storage: .arena))
      }
      steps.append(launch("affine", [from, to], [Dim(n), 2], blocks: blocks))
      from = to
    }
    return try make(
      slots: slots, inputs: [Binding(name: "x", type: type, slot: 0)],
      outputs: [Binding(name: "y", type: type, slot: 1)], steps: steps)
  }

  static func expected(_ x: [Double], depth: Int) -> [Double] {
    x.map { x in (0..<depth).reduce(x) { value, _ in value * 2 + 1 } }
  }
}
