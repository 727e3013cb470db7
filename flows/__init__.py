"""When things run: Prefect flows and tasks, the ``vip`` command line, deployments."""
