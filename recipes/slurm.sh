#!/bin/bash
# Trains on several hosts of a SLURM cluster, one process a GPU, and goes on in the next job of the same command:
#   sbatch recipes/slurm.sh recipes/gpu-large.yaml "$SCRATCH/run" --set data="$SCRATCH/data"
#SBATCH --job-name=clarice-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=48
#SBATCH --time=04:00:00
set -euo pipefail

# Five less than the job's time, for the last checkpoint.
minutes=235

recipe=$1 run=$2
shift 2
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / SLURM_GPUS_PER_NODE))

srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_PER_NODE" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$host:29500" \
    --no-python clarice train "$recipe" -o "$run" --device cuda --minutes "$minutes" "$@"
