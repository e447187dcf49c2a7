import ApusCore
import ApusGraph

/// What is shared while one model is read: options, functions, data files, symbols and the problems found so far.
final class ImportSession {
  let options: ImportOptions
  let tensors: TensorReader
  var symbols = SymbolTable()
  private let opsets: [String: Int]
  private var functions: [FunctionKey: Onnx_FunctionProto] = [:]
  private var problems: [Diagnostic] = []
  private var unsupported: [String: UnsupportedOperator] = [:]
  private var nodeCount = 0

  struct FunctionKey: Hashable {
    let domain: String
    let name: String
    let overload: String
  }

  /// Where an operator that cannot be lowered occurs.
  private struct UnsupportedOperator {
    var count: Int
    let firstPlace: String
    let reason: String
  }

  init(_ model: Onnx_ModelProto, opsets: [String: Int], folder: String?, options: ImportOptions) {
    self.options = options
    self.opsets = opsets
    tensors = TensorReader(external: ExternalData(folder: folder))
    for function in model.functions {
      let domain = function.domain == "ai.onnx" ? "" : function.domain
      functions[FunctionKey(domain: domain, name: function.name, overload: function.overload)] = function
    }
  }

  func function(_ node: Onnx_NodeProto) -> Onnx_FunctionProto? {
    if functions.isEmpty { return nil }
    return functions[FunctionKey(domain: node.canonicalDomain, name: node.opType, overload: node.overload)]
  }

  // MARK: Problems

  func report(_ error: ImportError) { for problem in error.problems { report(problem) } }

  func report(_ problem: Diagnostic) {
    if problems.count < ImportSession.problemLimit { problems.append(problem) }
  }

  /// Problems kept for one report.
  private static let problemLimit = 200

  /// Reports what a node's lowering threw; operators that are not supported are gathered by name.
  func report(_ error: ImportError, _ node: Onnx_NodeProto, place: String) {
    for problem in error.problems {
      if problem.code == ImportError.unsupportedCode {
        reportUnsupported(node.qualifiedName, place: place, reason: problem.message)
      } else {
        report(ImportError(problem).at(place))
      }
    }
  }

  func reportUnsupported(_ name: String, place: String, reason: String = "") {
    if unsupported[name] == nil {
      unsupported[name] = UnsupportedOperator(count: 0, firstPlace: place, reason: reason)
    }
    unsupported[name]?.count += 1
  }

  /// Does `work`; problems that it reports become its failure.
  ///
  /// - Throws: ``ImportError`` where an operator is not supported or a value must be known: these the user can change.
  func attempt<Value>(_ work: () throws(ImportError) -> Value) throws(ImportError) -> Result<Value, ImportError> {
    let before = problems
    defer { problems = before }
    let value: Value
    do { value = try work() } catch {
      let found = Array(problems.dropFirst(before.count)) + error.problems
      let isDecisive = found.contains {
        $0.code == ImportError.unsupportedCode || $0.code == ImportError.mustBeKnownCode
      }
      if found.isEmpty || isDecisive { throw ImportError(problems: found) }
      return .failure(ImportError(problems: found))
    }
    let found = Array(problems.dropFirst(before.count))
    if found.contains(where: { $0.code == ImportError.mustBeKnownCode }) { throw ImportError(problems: found) }
    return found.isEmpty ? .success(value) : .failure(ImportError(problems: found))
  }

  private var allProblems: [Diagnostic] {
    let operators = unsupported.sorted { $0.key < $1.key }.map { name, entry in
      let reason = entry.reason.isEmpty ? "" : " (\(entry.reason))"
      let times = entry.count == 1 ? "once" : "\(entry.count) times"
      return Diagnostic(
        "APUS-I-0010", "operator \(name) is not supported\(reason); the model uses it \(times)",
        place: entry.firstPlace,
        hint: UnsupportedHint.text(for: name, supported: OperatorTable.names))
    }
    return operators + problems
  }

  /// Nodes that a model may have once functions and branches are inlined.
  private static let nodeLimit = 250_000

  /// Counts a node that is lowered.
  func countNode() throws(ImportError) {
    nodeCount += 1
    if nodeCount > ImportSession.nodeLimit {
      throw ImportError(
        "APUS-I-0034", "the model has more than \(ImportSession.nodeLimit) nodes once its functions are inlined")
    }
  }

  // MARK: The main graph

  func run(_ proto: Onnx_GraphProto) throws(ImportError) -> Graph {
    let builder = GraphBuilder(parent: nil)
    let scope = NameScope(session: self, builder: builder, parent: nil, opsets: opsets, path: "")
    InputReader(session: self).declareInputs(of: proto, in: scope)
    do { try scope.lower(proto) } catch { report(error) }
    finish(proto, scope)
    let found = allProblems
    if !found.isEmpty { throw ImportError(problems: found) }
    builder.graph.removeDeadNodes()
    return builder.graph
  }

  private func finish(_ proto: Onnx_GraphProto, _ scope: NameScope) {
    var names: Set<String> = []
    for output in proto.output {
      if !names.insert(output.name).inserted {
        report(Diagnostic("APUS-I-0030", "two outputs are called '\(output.name)'"))
        continue
      }
      switch scope.lookup(output.name) {
      case .value(let id)?:
        scope.builder.graph.outputs.append(id)
        scope.builder.graph.outputNames.append(output.name)
      case .failed?: break
      case .omitted?, nil:
        if problems.isEmpty && unsupported.isEmpty {
          report(Diagnostic("APUS-I-0031", "output '\(output.name)' is computed by no node"))
        }
      }
    }
  }
}

extension Onnx_NodeProto {
  /// The operator's domain; empty for the default one, however it is spelled.
  var canonicalDomain: String { domain == "ai.onnx" ? "" : domain }

  /// `Conv`, or `com.microsoft::Gelu` for other domains.
  var qualifiedName: String { canonicalDomain.isEmpty ? opType : "\(domain)::\(opType)" }
}

extension ImportError {
  static let unsupportedCode = "APUS-I-0010"
  static let mustBeKnownCode = "APUS-I-0015"

  /// The operator, or the variant of it that `reason` names, cannot be lowered.
  static func unsupported(_ reason: String = "") -> ImportError { ImportError(unsupportedCode, reason) }
}
