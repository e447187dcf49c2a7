import ApusPlan

extension ProfileProposal {
  /// The profiles as `apus build --profile` takes them: by symbol where the model's are known, else by input.
  package func arguments(_ space: ShapeSpace) -> [String] {
    profiles.enumerated().map { index, entry in
      let items = space.hasSymbols ? Self.bySymbol(entry, space) : Self.byInput(entry, space)
      return "profile\(index): " + items.joined(separator: ", ")
    }
  }

  private static func bySymbol(_ entry: Entry, _ space: ShapeSpace) -> [String] {
    let fixed = space.fixedSymbols.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    return fixed
      + space.variables.indices.map { index in
        let range = Profile.Range(
          symbol: space.variables[index].name, min: entry.min[index], opt: entry.opt[index], max: entry.max[index])
        return "\(range.symbol)=\(range.sizesText)"
      }
  }

  private static func byInput(_ entry: Entry, _ space: ShapeSpace) -> [String] {
    space.observations.inputs.compactMap { input in
      guard let shape = space.points[0].shapes[input], !shape.isEmpty else { return nil }
      func text(_ sizes: [Int]) -> String {
        shape.indices.map { axis in
          let place = ShapeSpace.Axis(input: input, axis: axis)
          let variable = space.variables.firstIndex { $0.axes.contains(place) }
          return String(variable.map { sizes[$0] } ?? shape[axis])
        }.joined(separator: "x")
      }
      let (min, opt, max) = (text(entry.min), text(entry.opt), text(entry.max))
      return min == max ? "\(input)=\(min)" : "\(input)=\(min)..\(max)@\(opt)"
    }
  }
}
