"""The re-planner at work: looks at cluster and load, asks the decision, redeploys, writes down."""
