import Apus
import ApusCore
import ArgumentParser

/// Lists the environment settings.
struct KnobsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "knobs",
    abstract: "List the environment settings that help to find faults.",
    discussion: """
      Each is set in the environment; a value that is not accepted is an error. Nothing that production needs is here.

        apus knobs
        APUS_DEBUG=2 apus run model.apus
      """)

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let knobs = Knobs.all.sorted { $0.name < $1.name }
    var problems = UsageProblems()
    var rows: [(knob: Knob, value: String)] = []
    for knob in knobs {
      do { rows.append((knob, try knob.value())) } catch { for problem in error.problems { problems.add(problem) } }
    }
    if json {
      let list = rows.map { knob, value in
        JSON.object([
          ("name", .string(knob.name)), ("accepted", .string(knob.values)), ("default", .string(knob.defaultValue)),
          ("value", .string(value)), ("summary", .string(knob.summary)),
        ])
      }
      print(JSON.array(list))
    } else {
      var table = Table([("name", .left), ("value", .left), ("default", .left), ("accepted", .left), ("what", .left)])
      for (knob, value) in rows { table.add([knob.name, value, knob.defaultValue, knob.values, knob.summary]) }
      print(table.text)
    }
    try problems.throwIfAny()
  }
}
