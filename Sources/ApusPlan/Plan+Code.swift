extension Plan {
  /// The steps in order of listing, each followed by those it holds.
  package var allSteps: [Step] {
    func all(_ steps: [Step]) -> [Step] { steps.flatMap { [$0] + $0.action.nested.flatMap(all) } }
    return all(steps)
  }

  /// Calls `visit` with each step, in order of listing, and the plan whose slots it names.
  package func eachStep(_ visit: (Step, Plan) -> Void) {
    func walk(_ steps: [Step]) {
      for step in steps {
        visit(step, self)
        if case .piece(let piece) = step.action {
          piece.plan.eachStep(visit)
        } else {
          step.action.nested.forEach(walk)
        }
      }
    }
    walk(steps)
  }

  /// Calls `change` with every launch, those of bodies and pieces included.
  package mutating func updateLaunches(_ change: (inout Launch) -> Void) { Self.update(&steps, change) }

  /// Puts steps on lanes, by their numbers, those of bodies included; pieces are plans of their own.
  package mutating func setLanes(_ lanes: [Int]) {
    var number = 0
    Self.setLanes(lanes, &steps, &number)
  }

  /// The same steps, all on the first lane, in pieces too.
  package var withoutLanes: Plan {
    var plan = self
    plan.setLanes(plan.allSteps.map { _ in 0 })
    for index in plan.steps.indices {
      guard case .piece(var piece) = plan.steps[index].action else { continue }
      piece.plan = piece.plan.withoutLanes
      plan.steps[index].action = .piece(piece)
    }
    return plan
  }

  private static func setLanes(_ lanes: [Int], _ steps: inout [Step], _ number: inout Int) {
    for index in steps.indices {
      steps[index].lane = lanes[number]
      number += 1
      switch steps[index].action {
      case .branch(let condition, var then, var otherwise):
        setLanes(lanes, &then, &number)
        setLanes(lanes, &otherwise, &number)
        steps[index].action = .branch(condition: condition, then: then, else: otherwise)
      case .loop(var loop):
        setLanes(lanes, &loop.body, &number)
        steps[index].action = .loop(loop)
      case .piece(let piece): number += piece.plan.stepCount
      case .launch, .library, .copy, .host, .bind, .define: break
      }
    }
  }

  private static func update(_ steps: inout [Step], _ change: (inout Launch) -> Void) {
    for index in steps.indices {
      switch steps[index].action {
      case .launch(var launch):
        change(&launch)
        steps[index].action = .launch(launch)
      case .branch(let condition, var then, var otherwise):
        update(&then, change)
        update(&otherwise, change)
        steps[index].action = .branch(condition: condition, then: then, else: otherwise)
      case .loop(var loop):
        update(&loop.body, change)
        steps[index].action = .loop(loop)
      case .piece(var piece):
        piece.plan.updateLaunches(change)
        steps[index].action = .piece(piece)
      case .library, .copy, .host, .bind, .define: break
      }
    }
  }
}

extension [Plan] {
  /// Forgets the functions and images that no launch of the plans, which are of one target, uses.
  package mutating func removeUnusedCode() {
    guard let first else { return }
    var used: Set<Int> = []
    for plan in self {
      for step in plan.allSteps { if case .launch(let launch) = step.action { used.insert(launch.function) } }
    }
    let kept = used.sorted().filter(first.functions.indices.contains)
    let usedImages = Set(kept.map { first.functions[$0].image }).sorted().filter(first.images.indices.contains)
    let functionAt = Dictionary(uniqueKeysWithValues: kept.enumerated().map { ($1, $0) })
    let imageAt = Dictionary(uniqueKeysWithValues: usedImages.enumerated().map { ($1, $0) })
    let functions = kept.map { index in
      var function = first.functions[index]
      function.image = imageAt[function.image] ?? function.image
      return function
    }
    let images = usedImages.map { first.images[$0] }
    for index in indices {
      self[index].updateLaunches { $0.function = functionAt[$0.function] ?? $0.function }
      self[index].share(functions: functions, images: images, constants: self[index].constants)
    }
  }
}
