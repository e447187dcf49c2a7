package import ApusCore
import ApusGraph
import ApusOps
package import ApusRuntime

/// Computes operations that have no kernel by their reference.
package struct CatalogueHostOperations: HostOperations {
  package init() {}

  package func make(
    operation: String, attributes: String, operands: [ValueType], results: [ValueType]
  ) throws -> HostFunction {
    let operation = try GraphText.parse(operation: operation, details: attributes, catalogue: .standard)
    return { operands, symbol in
      let sized = try operation.substituting { symbol($0.name).map { Dim($0) } }
      return try sized.evaluate(operands)
    }
  }
}
