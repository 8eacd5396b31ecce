"""A policy with a memory."""

from __future__ import annotations


def recurrent_ppo(steps: int) -> None:
    """sb3-contrib's recurrent PPO on CartPole: rollouts of 128 steps, one at a time, then ten steps of training."""
    from sb3_contrib import RecurrentPPO

    rollout, epochs = 128, 10
    model = RecurrentPPO(
        "MlpLstmPolicy",
        "CartPole-v1",
        n_steps=rollout,
        batch_size=rollout,
        n_epochs=epochs,
        seed=0,
        device="cpu",
    )
    model.learn(total_timesteps=rollout * -(-steps // epochs))
