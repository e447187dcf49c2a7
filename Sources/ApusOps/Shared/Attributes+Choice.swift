import ApusCore
import ApusGraph

extension Attributes {
  /// A string attribute that names a case of `Choice`.
  func choice<Choice: RawRepresentable & CaseIterable>(_ name: String) throws(GraphError) -> Choice
  where Choice.RawValue == String {
    let text = try string(name)
    guard let value = Choice(rawValue: text) else {
      let accepted = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw GraphError("APUS-G-0202", "\(name) is '\(text)'", hint: "Accepted are \(accepted).")
    }
    return value
  }
}
