/// Text in columns: the first left-aligned, numbers right-aligned.
struct Table {
  enum Alignment {
    case left
    case right
  }

  private let columns: [(title: String, alignment: Alignment)]
  private var rows: [[String]] = []

  init(_ columns: [(title: String, alignment: Alignment)]) { self.columns = columns }

  mutating func add(_ cells: [String]) { rows.append(cells) }

  /// The header and the rows, without blanks at line ends.
  var text: String {
    let widths = columns.indices.map { column in
      ([columns[column].title] + rows.map { column < $0.count ? $0[column] : "" }).map(\.count).max() ?? 0
    }
    return ([columns.map(\.title)] + rows).map { cells in
      var line = ""
      for (column, cell) in cells.prefix(columns.count).enumerated() {
        let blanks = String(repeating: " ", count: widths[column] - cell.count)
        line += (column == 0 ? "" : "  ") + (columns[column].alignment == .left ? cell + blanks : blanks + cell)
      }
      while line.last == " " { line.removeLast() }
      return line
    }.joined(separator: "\n")
  }
}
