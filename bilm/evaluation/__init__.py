"""Results of trained models: metrics, comparisons, files in results/, tables and figures."""
