import ApusCore
import ApusPlan

/// Rows of a batch that is filled up to one of some sizes: which inputs and outputs have them in their first axis.
struct Filling: Sendable {
  let steps: [Int]
  let inputs: [Int]
  let outputs: [Int]
  /// Where the inputs' numbers of rows are among the sizes of all inputs.
  let positions: [Int]

  init(_ range: Profile.Range, of plan: Plan) {
    steps = range.steps
    func has(_ binding: Binding) -> Bool {
      binding.type.tensor?.shape.first?.symbols.contains { $0.name == range.symbol } ?? false
    }
    inputs = plan.inputs.indices.filter { has(plan.inputs[$0]) }
    outputs = plan.outputs.indices.filter { has(plan.outputs[$0]) }
    var starts: [Int] = []
    var position = 0
    for input in plan.inputs {
      starts.append(position)
      position += (input.type.tensor?.rank ?? 0) + (input.values?.count ?? 0)
    }
    positions = inputs.map { starts[$0] }
  }

  /// Puts the next size in place of the number of rows, where all inputs have the same and it is within the steps.
  func fillUp(_ sizes: inout [Int]) -> FilledRows {
    guard let first = positions.first else { return FilledRows() }
    let rows = sizes[first]
    for position in positions where sizes[position] != rows { return FilledRows() }
    if rows < 1 { return FilledRows() }
    for step in steps where step >= rows {
      for position in positions { sizes[position] = step }
      return FilledRows(given: rows, computed: step)
    }
    return FilledRows()
  }
}

/// How many rows there are, and how many are computed.
struct FilledRows: Sendable {
  var given = 1
  var computed = 1

  /// The bytes of rows that there are, of bytes of all that are computed.
  func given(of byteCount: Int) -> Int { byteCount / computed * given }
}

extension RunState {
  private func filling(ofInput index: Int) -> Int? { fillings.firstIndex { $0.inputs.contains(index) } }

  private func filling(ofOutput index: Int) -> Int? { fillings.firstIndex { $0.outputs.contains(index) } }

  /// Whether steps read a copy of an input: the device cannot reach the input itself, or rows are added to it.
  func readsCopy(ofInput index: Int) -> Bool {
    isElsewhere && !bindings.inputs[index].isOnDevice || filling(ofInput: index) != nil
  }

  /// Whether steps write an output elsewhere, from where it is copied.
  func writesCopy(ofOutput index: Int) -> Bool {
    isElsewhere && !bindings.outputs[index].isOnDevice || filling(ofOutput: index) != nil
  }

  /// Takes the next size that is declared for each number of rows.
  func fillUpSizes() {
    for index in fillings.indices { rows[index] = fillings[index].fillUp(&key) }
  }

  func rows(ofInput index: Int) -> FilledRows { filling(ofInput: index).map { rows[$0] } ?? FilledRows() }

  func rows(ofOutput index: Int) -> FilledRows { filling(ofOutput: index).map { rows[$0] } ?? FilledRows() }
}
