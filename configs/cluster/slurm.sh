#!/usr/bin/env bash
# A run on several nodes of a Slurm cluster, and how it goes on when its time was up:
#   sbatch configs/cluster/slurm.sh configs/paper.yaml method.density=0.005
#   sbatch configs/cluster/slurm.sh resume runs/slurm-JOB
# Submit it from the checkout, which all nodes see at the same path, with its .venv (make setup, once). For GPUs add
# --gpus-per-node=4 to sbatch, and fleet.gpus=0.25 to the run: four actors share one.
#SBATCH --job-name=fedtiny
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=32G
#SBATCH --time=08:00:00
#SBATCH --exclusive
#SBATCH --output=fedtiny-%j.out
# --exclusive, since Ray is stopped at the end, and `ray stop` ends every Ray of yours on a node.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-.}"
export PATH="$PWD/.venv/bin:$PATH"
export RAY_USAGE_STATS_ENABLED=0
# Other users may reach the nodes' ports: only who has the token in ~/.ray, which all nodes see, may join.
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null
# On each node's own disk: kernels are compiled for the CPU that they run on.
export FEDTINY_CACHE="${FEDTINY_CACHE:-/tmp/fedtiny-cache-$USER}"

if [ "${1:-}" = resume ]; then
  command=(python -m fedtiny "$@")
else
  command=(python -m fedtiny run "$@" fleet.name=ray fleet.address=auto "out=runs/slurm-$SLURM_JOB_ID")
fi
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
# On every node: start Ray; on the first: wait for the others, make the run, stop Ray.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --include-dashboard=false -- "${command[@]}"
